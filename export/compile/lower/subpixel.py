"""Transposed convolutions as sub-pixel convolutions: a convolution on the small grid, then depth to space.

A runtime's transposed convolution scatters, or multiplies by the zeros between the inputs; this one does neither, and
its convolution has kernels for every arithmetic. See :mod:`gen_engine.export.compile.lower.phases` for the derivation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from gen_engine.export.compile.lower.phases import Axis, convolve, depth_to_space, plan_axis, spread
from gen_engine.export.compile.lower.transposed import Transposed, read_transposed
from gen_engine.export.graph import NodeBuilder

LARGEST_SPLIT = 64
"""Inputs of up to this many cells are small enough for a convolution a phase: the one cell more an axis that a common
grid may need, and the taps of a common window that a phase does not read, are then a large part of the work; and the
weights of a phase stay in a processor's cache where those of all phases together are read again for every sample."""


def lower_subpixel(model: ir.Model) -> int:
    """Turn every ConvTranspose into one Conv and a depth-to-space; with stride 1 into a Conv alone."""
    return _each(model, _whole)


def lower_split(model: ir.Model) -> int:
    """Turn each ConvTranspose on an input of at most :data:`LARGEST_SPLIT` cells into a Conv a phase, interleaved."""
    return _each(model, _split)


def _each(model: ir.Model, lowered: Callable[[NodeBuilder, Transposed], ir.Value | None]) -> int:
    changed = 0
    for node in tuple(model.graph):
        layer = read_transposed(node)
        if layer is None:
            continue
        builder = NodeBuilder(model, node)
        value = lowered(builder, layer)
        if value is not None:
            builder.replace(value)
            changed += 1
    return changed


def _axis(layer: Transposed, i: int, align: int | None = None) -> Axis | None:
    stride, dilation, pad = layer.strides[i], layer.dilations[i], layer.pads[i]

    def reads(o: int, t: int) -> int | None:
        at, between = divmod(o + pad - t * dilation, stride)
        return None if between else at

    return plan_axis(reads, stride=stride, taps=layer.kernel[i], size=layer.sizes[i], out=layer.out[i], align=align)


def _whole(builder: NodeBuilder, layer: Transposed) -> ir.Value | None:
    axes = [axis for i in range(len(layer.sizes)) if (axis := _axis(layer, i)) is not None]
    if len(axes) != len(layer.sizes) or not _seen(layer, axes):
        return None
    n, groups = len(axes), layer.groups
    inputs, outputs = layer.weight.shape[0] // groups, layer.weight.shape[1]
    phases = int(np.prod([axis.stride for axis in axes]))
    kernel = spread(layer.weight, axes)  # [I, O/g, s…, m…]
    kernel = kernel.reshape(groups, inputs, *kernel.shape[1:])
    window = tuple(range(3 + n, 3 + 2 * n))
    if groups == 1:  # [s…, O, I, m…]
        kernel = kernel.transpose(0, *range(3, 3 + n), 2, 1, *window)
        bias = None if layer.bias is None else np.tile(layer.bias, phases)
    else:  # [g, O/g, s…, I/g, m…]: a group's channels stay together
        kernel = kernel.transpose(0, 2, *range(3, 3 + n), 1, *window)
        bias = None if layer.bias is None else np.repeat(layer.bias, phases)
    kernel = kernel.reshape(groups * outputs * phases, inputs, *(axis.select.shape[1] for axis in axes))
    value = convolve(builder, layer.input, kernel, bias, axes, groups)
    return depth_to_space(builder, value, layer.channels, axes, channels_first=groups > 1)


def _split(builder: NodeBuilder, layer: Transposed) -> ir.Value | None:
    if layer.groups != 1 or math.prod(layer.sizes) > LARGEST_SPLIT or max(layer.strides) == 1 or min(layer.sizes) == 1:
        return None
    axes = [axis for i in range(len(layer.sizes)) if (axis := _axis(layer, i, align=0)) is not None]
    if len(axes) != len(layer.sizes):
        return None
    plans = {}
    for phase in np.ndindex(*layer.strides):
        alone = [_phase(axis, r, size) for axis, r, size in zip(axes, phase, layer.sizes, strict=True)]
        read = [axis for axis in alone if axis is not None]
        if len(read) != len(axes) or not _seen(layer, read):
            return None  # a phase that reads nothing is all bias: leave it to the whole form
        plans[phase] = read
    parts = []
    for plan in plans.values():
        kernel = spread(layer.weight, plan)
        kernel = kernel.reshape(*kernel.shape[:2], *(axis.select.shape[1] for axis in plan))  # [I, O, m…]
        parts.append(convolve(builder, layer.input, kernel.swapaxes(0, 1).copy(), layer.bias, plan))
    channels = layer.channels * len(parts)
    joined = builder.op("Concat", parts, [None, channels, *(axis.grid for axis in axes)], {"axis": 1})
    return depth_to_space(builder, joined, layer.channels, axes)


def _phase(axis: Axis, r: int, size: int) -> Axis | None:
    """Return the axis for one phase alone: only the window positions that it reads."""
    read = np.flatnonzero(axis.select[r].any(axis=1))
    if not len(read):
        return None
    first, last = int(read[0]), int(read[-1])
    return Axis(
        stride=1,
        grid=axis.grid,
        align=0,
        out=axis.grid,
        pad_begin=axis.pad_begin - first,
        pad_end=axis.grid - 1 + last - axis.pad_begin - (size - 1),
        select=axis.select[r : r + 1, first : last + 1],
    )


def _seen(layer: Transposed, axes: list[Axis]) -> bool:
    """Tell whether something of the input is left to convolve: pads beyond the kernel can cut all of it away."""
    return all(
        size - max(-axis.pad_begin, 0) - max(-axis.pad_end, 0) > 0 for size, axis in zip(layer.sizes, axes, strict=True)
    )
