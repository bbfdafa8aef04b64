"""A thin convolution after a depth-to-space, moved before it: it reads the phases of the small grid directly.

A layer of few outputs uses few of a matrix unit's columns; on the small grid it has s times the outputs, each of which
reads all phases under its window. What a crop removed is zero for the layer, so a constant mask makes it zero. Notation
as in :mod:`gen_engine.export.compile.lower.phases`: output o + a = q · s + r reads by tap t
position o − pad + t · dilation of the large image, which is phase p of cell e.

A worked example in one dimension: a kernel (a, b, c) with pad 1 after a depth-to-space of stride 2, x[2·e + p] being
phase p of cell e. Output o reads x[o - 1 + t], so cell q makes the pair

    y[2q]   = a·x[2(q-1)+1] + b·x[2q] + c·x[2q+1]
    y[2q+1] =                 a·x[2q] + b·x[2q+1] + c·x[2(q+1)]

which is a convolution of window 3 on the small grid, from 2 phases to 2 phases: 12 weights of which 6 are zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.export.compile.lower.activation_first import copied, is_elementwise, moving_input
from gen_engine.export.compile.lower.convolution import Convolution, read_convolution
from gen_engine.export.compile.lower.phases import Axis, convolve, depth_to_space
from gen_engine.export.compile.lower.shuffle import Shuffle, phase_table, read_shuffle, shuffled_end
from gen_engine.export.graph import NodeBuilder, known_shape, only_user

MOST_OUTPUTS = 64
"""Outputs on the small grid: a layer that already has more fills the columns by itself."""

MOST_WORK = 5.0
"""Multiplications of the merged layer over those of the layer. A doubling and a 2×2 window come to 4 and one more cell,
4.6 on a grid of 7. They are repaid by filled columns, and by the large tensor that is never written."""


@dataclass(frozen=True, kw_only=True)
class _MergedAxis:
    axis: Axis
    taps: NDArray[np.float32]
    """[s, m, p, k]: 1 where output phase r reads phase p of window cell m by tap t."""


def merge_thin_last(model: ir.Model) -> int:
    """Merge every Conv of few outputs with the depth-to-space (and crop) before it, where that is not too much work.

    The activation after it moves before its own depth-to-space; if another depth-to-space follows, the two are one.
    """
    return sum(_merge(model, node) for node in tuple(model.graph) if node.op_type == "Conv")


def _merge(model: ir.Model, conv: ir.Node) -> bool:
    layer = read_convolution(conv)
    if layer is None or layer.groups != 1 or only_user(layer.input) is None:
        return False
    shuffle = read_shuffle(layer.input)
    if shuffle is None or layer.channels * math.prod(shuffle.strides) > MOST_OUTPUTS:
        return False
    axes = [_plan(layer, shuffle, i) for i in range(len(layer.out))]
    work = math.prod(one.axis.cost * one.axis.stride**2 for one in axes)
    if work > MOST_WORK * math.prod(layer.kernel) * math.prod(layer.out) or not all(map(_sees, axes, shuffle.grid)):
        return False
    activations, end = _after(conv)
    following = read_shuffle(end)
    builder = NodeBuilder(model, _maker(end))
    source = _masked(builder, layer, shuffle)
    value = convolve(builder, source, *_kernel(layer, shuffle, axes, following), [one.axis for one in axes])
    for node in activations:
        value = copied(builder, node, value)
    if following is None:
        value = depth_to_space(builder, value, layer.channels, [one.axis for one in axes])
    else:
        value = depth_to_space(builder, value, following.channels, _composed(axes, following))
    builder.replace(value)
    return True


def _plan(layer: Convolution, shuffle: Shuffle, i: int) -> _MergedAxis:
    """Return the cheapest way to compute an axis."""
    return min((_aligned(layer, shuffle, i, align) for align in range(shuffle.strides[i])), key=lambda p: p.axis.cost)


def _aligned(layer: Convolution, shuffle: Shuffle, i: int, align: int) -> _MergedAxis:
    stride, out = shuffle.strides[i], layer.out[i]
    shift = shuffle.start[i] - layer.pads[i] - align
    read = [
        (r, t, *divmod(r + shift + t * layer.dilations[i], stride))
        for r in range(stride)
        for t in range(layer.kernel[i])
    ]
    first, last = min(cell for _, _, cell, _ in read), max(cell for _, _, cell, _ in read)
    taps = np.zeros((stride, last - first + 1, stride, layer.kernel[i]), np.float32)
    for r, t, cell, phase in read:
        taps[r, cell - first, phase, t] = 1
    grid = (out - 1 + align) // stride + 1
    axis = Axis(
        stride=stride,
        grid=grid,
        align=align,
        out=out,
        pad_begin=-first,
        pad_end=grid - 1 + last - (shuffle.grid[i] - 1),
        select=taps.max(axis=2),
    )
    return _MergedAxis(axis=axis, taps=taps)


def _sees(one: _MergedAxis, size: int) -> bool:
    """Tell whether something of the input is left to convolve."""
    return size - max(-one.axis.pad_begin, 0) - max(-one.axis.pad_end, 0) > 0


def _after(conv: ir.Node) -> tuple[list[ir.Node], ir.Value]:
    """Return the elementwise nodes after a layer, and the value where they, and a depth-to-space after them, end."""
    activations: list[ir.Node] = []
    value = conv.outputs[0]
    while (node := only_user(value)) is not None and is_elementwise(node) and node.inputs[moving_input(node)] is value:
        activations.append(node)
        value = node.outputs[0]
    return activations, shuffled_end(value)


def _maker(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _masked(builder: NodeBuilder, layer: Convolution, shuffle: Shuffle) -> ir.Value:
    """Return the phases with zeros where the crop cuts; as they are if the layer does not look there."""
    inside, looks = [], False
    for i, (cells, stride) in enumerate(zip(shuffle.grid, shuffle.strides, strict=True)):
        start, size = shuffle.start[i], shuffle.sizes[i]
        at = np.arange(cells * stride).reshape(cells, stride) - start
        inside.append(((at >= 0) & (at < size)).astype(np.float32))
        beyond = layer.out[i] - 1 - layer.pads[i] + (layer.kernel[i] - 1) * layer.dilations[i] - (size - 1)
        looks |= (start > 0 and layer.pads[i] > 0) or (start + size < cells * stride and beyond > 0)
    if not looks:
        return shuffle.source
    mask = np.ones((), np.float32)
    for axis in inside:  # [q1, s1, q2, s2, …]
        mask = np.multiply.outer(mask, axis)
    n = len(inside)
    mask = mask.transpose(*range(1, 2 * n, 2), *range(0, 2 * n, 2))  # [s…, Q…]
    full = np.zeros((shuffle.table.size, *shuffle.grid), np.float32)
    full[shuffle.table] = mask.reshape(*shuffle.strides, 1, *shuffle.grid)
    shape = known_shape(shuffle.source)
    assert shape is not None
    return builder.op("Mul", [shuffle.source, builder.constant(full[None])], shape)


def _kernel(
    layer: Convolution, shuffle: Shuffle, axes: Sequence[_MergedAxis], following: Shuffle | None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return weight [s…·O, D, m…] and bias of the merged layer; its outputs ordered for the depth-to-space after it."""
    n, merged = len(axes), layer.weight.astype(np.float64)
    for one in axes:  # [O, C, k, …] → [O, C, …, s, m, p]
        merged = np.tensordot(merged, one.taps.astype(np.float64), axes=(2, 3))
    strides, window = range(2, 2 + 3 * n, 3), range(3, 2 + 3 * n, 3)
    merged = merged.transpose(*strides, 0, *range(4, 2 + 3 * n, 3), 1, *window)  # [s…, O, p…, C, m…]
    outputs, cells = math.prod(merged.shape[: n + 1]), merged.shape[2 * n + 2 :]
    weight = np.zeros((outputs, shuffle.table.size, *cells))
    weight[:, shuffle.table.ravel()] = merged.reshape(outputs, -1, *cells)
    places = phase_table(shuffle.strides, layer.channels)  # [s…, O]
    if following is not None:
        places = places[..., following.table]  # [s1…sn, s1'…sn', C]: an axis' two phases go side by side
        places = places.transpose(*(axis for i in range(n) for axis in (i, n + i)), 2 * n)
    order = places.ravel()
    bias = None if layer.bias is None else np.tile(layer.bias, math.prod(shuffle.strides))[order]
    return weight[order].astype(np.float32), bias


def _composed(axes: Sequence[_MergedAxis], following: Shuffle) -> list[Axis]:
    """Return the axes of one depth-to-space for two: phase r·s' + r' of cell q is phase r' of what was phase r."""
    return [
        replace(
            one.axis,
            stride=one.axis.stride * following.strides[i],
            align=one.axis.align * following.strides[i] + following.start[i],
            out=following.sizes[i],
        )
        for i, one in enumerate(axes)
    ]
