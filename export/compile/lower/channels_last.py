"""Movements and dense layers rewritten for channels last in memory, the layout of matrix units.

A runtime that stores [B, C, Q…] with the channels innermost reads it as [B, Q…, C] at no cost. In this layout the
phases of a series are already in place, those of an image move as contiguous runs of channels, and the output of a
dense layer needs no transposition if its columns are sorted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from gen_engine.export.compile.lower.activation_first import is_elementwise, moving_input
from gen_engine.export.graph import NodeBuilder, attribute, constant, known_shape, only_user, own_maker


def put_channels_last(model: ir.Model) -> int:
    """Rewrite every movement of phases, and every dense layer that makes a small image; return how many."""
    changed = 0
    for node in tuple(model.graph):
        if node.op_type == "Reshape":
            changed += _move_phases(model, node) or _sort_dense(model, node)
    return changed


class _Moved(NamedTuple):
    """A Reshape of [B, D, Q…] into factors, a Transpose and a Reshape: ``order`` is of parts, the batch left out."""

    source: ir.Value
    rank: int
    parts: tuple[int, ...]
    order: tuple[int, ...]
    target: tuple[int, ...]

    @property
    def factors(self) -> int:
        """How many of the parts are factors of D; the rest are the axes Q."""
        return len(self.parts) - self.rank


def _move_phases(model: ir.Model, last: ir.Node) -> bool:
    moved = _read(last)
    if moved is None:
        return False
    factors, rank = moved.factors, moved.rank
    first = _channels_first(moved)
    # Parts in memory order: the axes, then the factors of the channels.
    memory_order = [*range(factors, factors + rank), *range(factors)]
    order = [*moved.order[first:], *moved.order[:first]]
    runs = _runs(order, memory_order)
    if len(runs) == len(order) == 1:
        return False
    builder = NodeBuilder(model, last)
    value = builder.transpose(moved.source, [0, *range(2, rank + 2), 1])
    starts = sorted(range(len(runs)), key=lambda i: memory_order.index(runs[i][0]))
    if starts != list(range(len(runs))):
        value = builder.reshape(value, [math.prod(moved.parts[axis] for axis in runs[i]) for i in starts])
        value = builder.transpose(value, [0, *(starts.index(i) + 1 for i in range(len(runs)))])
    if not first:
        builder.replace(builder.reshape(value, moved.target))
        return True
    value = builder.reshape(value, [*moved.target[1:], moved.target[0]])
    builder.replace(builder.transpose(value, [0, rank + 1, *range(1, rank + 1)]))
    return True


def _read(last: ir.Node) -> _Moved | None:
    transpose = own_maker(last, "Transpose")
    split = None if transpose is None else own_maker(transpose, "Reshape")
    if transpose is None or split is None:
        return None
    source = split.inputs[0]
    shapes = [known_shape(value) for value in (source, split.outputs[0], last.outputs[0])]
    order = attribute(transpose, "perm", ())
    if source is None or any(shape is None for shape in shapes) or not order or order[0] != 0:
        return None
    whole, parts, target = ([size for size in (shape or [])[1:] if size is not None] for shape in shapes)
    rank = len(whole) - 1
    grid = parts[len(parts) - rank :]
    if rank < 1 or len(target) != rank + 1 or grid != whole[1:] or math.prod(parts[:-rank]) != whole[0]:
        return None
    return _Moved(source, rank, tuple(parts), tuple(axis - 1 for axis in order[1:]), tuple(target))


def _channels_first(moved: _Moved) -> int:
    """Return how many parts make up the channels that the result begins with; 0 if it begins with a place."""
    taken, product = 0, 1
    while moved.order[taken] < moved.factors and product < moved.target[0]:
        product *= moved.parts[moved.order[taken]]
        taken += 1
    return taken if product == moved.target[0] else 0


def _runs(order: Sequence[int], memory_order: Sequence[int]) -> list[list[int]]:
    """Return ``order`` in runs of parts that are adjacent in memory already, and so move together."""
    runs: list[list[int]] = []
    for axis in order:
        if runs and memory_order.index(axis) == memory_order.index(runs[-1][-1]) + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def _sort_dense(model: ir.Model, reshape: ir.Node) -> bool:
    """Make a Gemm whose result is reshaped to [B, C, Q…] produce [B, Q…, C], by sorting its columns."""
    shape = known_shape(reshape.outputs[0])
    gemm = _dense_before(reshape)
    if shape is None or len(shape) < 3 or gemm is None:
        return False
    sizes = [size for size in shape[1:] if size is not None]
    arrays = [constant(value) for value in gemm.inputs[1:]]
    if any(array is None for array in arrays) or math.prod(sizes[1:]) == 1:
        return False
    columns = np.moveaxis(np.arange(math.prod(sizes)).reshape(sizes), 0, -1).ravel()
    weight, *bias = (np.asarray(array) for array in arrays)
    axis = 0 if attribute(gemm, "transB", 0) else 1
    if weight.shape[axis] != columns.size or any(array.shape[-1] != columns.size for array in bias):
        return False
    builder = NodeBuilder(model, gemm)
    gemm.replace_input_with(1, builder.constant(weight.take(columns, axis=axis)))
    for array in bias:
        gemm.replace_input_with(2, builder.constant(array[..., columns]))
    builder = NodeBuilder(model, reshape)
    value = reshape.inputs[0]
    assert value is not None
    value = builder.reshape(value, [*sizes[1:], sizes[0]])
    builder.replace(builder.transpose(value, [0, len(sizes), *range(1, len(sizes))]))
    return True


def _dense_before(reshape: ir.Node) -> ir.Node | None:
    """Return the Gemm that a Reshape's values come from, with only elementwise operators between."""
    value = reshape.inputs[0]
    while value is not None and only_user(value) is not None and (maker := value.producer()) is not None:
        if maker.op_type == "Gemm":
            return maker
        if not is_elementwise(maker):
            return None
        value = maker.inputs[moving_input(maker)]
    return None
