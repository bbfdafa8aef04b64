"""Up-sampling layers as one convolution on the small grid and a depth-to-space, whatever their parameters.

Output position o is written o + a = q · s + r: cell q of the small grid, phase r of s, an alignment a of our choice. In
phase r every tap t of the layer reads the input at a fixed distance from q. All phases' distances together are the
window of one convolution with s times the channels: its taps are zero where a phase does not read. The alignment
decides how wide the window and how large the grid is (Shi et al. 2016 give the idea for one alignment).

An axis' selection is an array [s, m, k]: 1 where phase r reads window position e by tap t.

A worked example in one dimension: the ConvTranspose of a DCGAN, stride 2, kernel (a, b, c, d), pad 1, from 4 inputs x
to 8 outputs y. Output o reads input i by tap t = o + 1 - 2·i, so with a = 0, cell q makes the pair

    y[2q]   = d·x[q-1] + b·x[q]                phase 0
    y[2q+1] =            c·x[q] + a·x[q+1]     phase 1

which is a convolution of window 3 and 2 channels on 4 cells, 12 multiplications. With a = 1 the cells begin one output
earlier, and both phases read the same two inputs:

    y[2q-1] = c·x[q-1] + a·x[q]
    y[2q]   = d·x[q-1] + b·x[q]

which is a window of 2 on 5 cells, 10 multiplications; of its 10 outputs the first and the last are cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.export.graph import NodeBuilder, known_shape


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How one spatial axis is computed on the small grid."""

    stride: int
    grid: int
    """Cells computed."""

    align: int
    """Outputs of the first cell that are cut off."""

    out: int
    pad_begin: int
    pad_end: int
    """Zeros the convolution sees beyond the input; negative: input it does not see."""

    select: NDArray[np.float32]
    """[s, m, k]"""

    @property
    def cost(self) -> int:
        """Multiplications a channel: cells × window."""
        return self.grid * int(self.select.shape[1])


def plan_axis(
    reads: Callable[[int, int], int | None], *, stride: int, taps: int, size: int, out: int, align: int | None = None
) -> Axis | None:
    """Return the cheapest way to compute an axis; None if nothing is read at all.

    Args:
        reads: ``reads(o, t)``: the input position that tap t of output o reads; None if it reads none. It must be the
            same one further for an output that is a stride further.
        stride: outputs a cell.
        taps: taps of the layer.
        size: inputs.
        out: outputs.
        align: only this alignment; None for the cheapest one.
    """
    plans = [_plan(reads, stride, taps, size, out, a) for a in ([align] if align is not None else range(stride))]
    return min((plan for plan in plans if plan is not None), key=lambda plan: plan.cost, default=None)


def _plan(
    reads: Callable[[int, int], int | None], stride: int, taps: int, size: int, out: int, align: int
) -> Axis | None:
    read = [(r, t, at) for r in range(stride) for t in range(taps) if (at := reads(r - align, t)) is not None]
    if not read:
        return None
    first, last = min(at for _, _, at in read), max(at for _, _, at in read)
    select = np.zeros((stride, last - first + 1, taps), np.float32)
    for r, t, at in read:
        select[r, at - first, t] = 1
    grid = (out - 1 + align) // stride + 1
    return Axis(
        stride=stride,
        grid=grid,
        align=align,
        out=out,
        pad_begin=-first,
        pad_end=grid - 1 + last - (size - 1),
        select=select,
    )


def spread(weight: NDArray[Any], axes: Sequence[Axis]) -> NDArray[np.float32]:
    """Return [X, Y, s1…sn, m1…mn] of a weight [X, Y, k1…kn]: each phase's taps at their window positions."""
    spatial, phases = len(axes), np.asarray(weight, np.float64)
    for axis in axes:  # [X, Y, k, …] → [X, Y, …, s, m]
        phases = np.tensordot(phases, axis.select.astype(np.float64), axes=(2, 2))
    order = [0, 1, *range(2, 2 + 2 * spatial, 2), *range(3, 3 + 2 * spatial, 2)]
    return phases.transpose(order).astype(np.float32)


def convolve(
    builder: NodeBuilder,
    value: ir.Value,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    axes: Sequence[Axis],
    groups: int = 1,
) -> ir.Value:
    """Return the convolution on the small grid, weight [O', I / groups, m1…mn]; negative pads become a crop."""
    sizes = [size for size in (known_shape(value) or [])[2:] if size is not None]
    begins, ends = [axis.pad_begin for axis in axes], [axis.pad_end for axis in axes]
    starts = [max(-begin, 0) for begin in begins]
    lengths = [size - start - max(-end, 0) for size, start, end in zip(sizes, starts, ends, strict=True)]
    value = builder.crop(value, starts, lengths)
    inputs = [value, builder.constant(weight)]
    if bias is not None:
        inputs.append(builder.constant(bias))
    attributes: dict[str, Any] = {
        "kernel_shape": list(weight.shape[2:]),
        "pads": [max(pad, 0) for pad in (*begins, *ends)],
    }
    if groups > 1:
        attributes["group"] = groups
    return builder.op("Conv", inputs, [None, weight.shape[0], *(axis.grid for axis in axes)], attributes)


def depth_to_space(
    builder: NodeBuilder, value: ir.Value, channels: int, axes: Sequence[Axis], *, channels_first: bool = False
) -> ir.Value:
    """Return [B, C, out…] of [B, s1…sn · C, grid…], the crop included.

    Args:
        builder: where to put it.
        value: the small grid's phases.
        channels: C.
        axes: the plan.
        channels_first: the phases of a channel lie side by side (ONNX's CRD), else the channels of a phase (DCR).
    """
    strides = [axis.stride for axis in axes]
    full = [axis.stride * axis.grid for axis in axes]
    if len(axes) == 2 and strides[0] == strides[1] > 1:
        attributes = {"blocksize": strides[0], "mode": "CRD" if channels_first else "DCR"}
        value = builder.op("DepthToSpace", [value], [None, channels, *full], attributes)
    elif max(strides) > 1:
        n = len(axes)
        grids = [axis.grid for axis in axes]
        apart = [channels, *strides, *grids] if channels_first else [*strides, channels, *grids]
        channel, first = (1, 2) if channels_first else (n + 1, 1)
        order = [0, channel]
        for i in range(n):
            order += [n + 2 + i, first + i]
        value = builder.reshape(builder.transpose(builder.reshape(value, apart), order), [channels, *full])
    return builder.crop(value, [axis.align for axis in axes], [axis.out for axis in axes])
