"""A depth-to-space and its crop, read from its nodes: the end of every up-sampling layer.

Position o of the large image is o + start = q · s + r: cell q of the small one, phase r. Phases are stored among the
channels, in an order given by a table: ONNX's operator has two, a Reshape, a Transpose and a Reshape may have any.

A worked example in one dimension, stride 2 and 2 channels: large[c, 2·q + r] = small[table[r, c], q], with the table
[[0, 1], [2, 3]] where the channels of a phase are adjacent (DCR), and [[0, 2], [1, 3]] where the phases of a
channel are (CRD). In einops: ``(r c) q -> c (q r)`` and ``(c r) q -> c (q r)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.export.graph import attribute, constant, known_shape, only_user, own_maker


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """A movement [B, D, Q…] → [B, C, sizes…], of which every value on the way is used once."""

    source: ir.Value
    """The phases, [B, D, Q…]."""

    grid: tuple[int, ...]
    """Q of each axis: cells."""

    table: NDArray[np.int64]
    """[s…, C]: which of the D channels is phase r of channel c."""

    start: tuple[int, ...]
    """Places that the crop cuts off at the begin of each axis."""

    sizes: tuple[int, ...]
    """Places that it leaves."""

    @property
    def strides(self) -> tuple[int, ...]:
        """s of each axis."""
        return tuple(self.table.shape[:-1])

    @property
    def channels(self) -> int:
        """C."""
        return int(self.table.shape[-1])

    @property
    def phases_first(self) -> bool:
        """Do a phase's channels lie side by side (ONNX's DCR)?"""
        return np.array_equal(self.table, phase_table(self.strides, self.channels))

    @property
    def channels_first(self) -> bool:
        """Do a channel's phases lie side by side (ONNX's CRD)?"""
        return np.array_equal(self.table, phase_table(self.strides, self.channels, channels_first=True))


def phase_table(strides: Sequence[int], channels: int, *, channels_first: bool = False) -> NDArray[np.int64]:
    """Return the table [s…, C] of ONNX's DCR order, or of its CRD order."""
    places = np.arange(math.prod(strides) * channels)
    if channels_first:
        return np.moveaxis(places.reshape(channels, *strides), 0, -1)
    return places.reshape(*strides, channels)


def read_shuffle(value: ir.Value | None) -> Shuffle | None:
    """Return what moved a value into its place; None unless it is a depth-to-space, cropped or not."""
    shape = _sizes(value)
    if value is None or shape is None or len(shape) < 2:
        return None
    start = [0] * (len(shape) - 1)
    while (maker := value.producer()) is not None and (begins := crop_begins(maker)) is not None:
        start = [outer + inner for outer, inner in zip(start, begins, strict=True)]
        value = maker.inputs[0]
        assert value is not None
        if only_user(value) is None:
            return None
    source, table = _depth_to_space(value)
    grid = _sizes(source)
    if source is None or table is None or grid is None:
        return None
    return Shuffle(source=source, grid=grid[1:], table=table, start=tuple(start), sizes=shape[1:])


def shuffled_end(value: ir.Value) -> ir.Value:
    """Return the result of the depth-to-space and crop that read a value; the value itself if there are none."""
    end, at = value, value
    while (node := only_user(at)) is not None and node.op_type in ("DepthToSpace", "Reshape", "Transpose", "Slice"):
        at = node.outputs[0]
        shuffle = read_shuffle(at)
        if shuffle is not None and shuffle.source is value:
            end = at
    return end


def crop_begins(node: ir.Node) -> tuple[int, ...] | None:
    """Return where a Slice begins on each axis after the channels; None if it cuts other axes, or by steps."""
    shape = _sizes(node.inputs[0]) if node.op_type == "Slice" else None
    bounds = [constant(value) for value in node.inputs[1:]]
    if shape is None or len(bounds) < 2 or any(bound is None for bound in bounds):
        return None
    begins, ends, *rest = (np.asarray(bound).tolist() for bound in bounds)
    axes = [axis % (len(shape) + 1) for axis in rest[0]] if rest else range(len(begins))
    if any(axis < 2 for axis in axes) or (len(rest) > 1 and set(rest[1]) != {1}):
        return None
    offsets = [0] * (len(shape) - 1)
    for axis, begin, end in zip(axes, begins, ends, strict=True):
        offsets[axis - 2] = slice(begin, end).indices(shape[axis - 1])[0]
    return tuple(offsets)


def _sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the shape without the batch."""
    shape = known_shape(value)
    return None if shape is None else tuple(size for size in shape[1:] if size is not None)


def _depth_to_space(value: ir.Value) -> tuple[ir.Value | None, NDArray[np.int64] | None]:
    node, target = value.producer(), _sizes(value)
    if node is None or target is None:
        return None, None
    if node.op_type == "DepthToSpace":
        block, order = attribute(node, "blocksize", 1), attribute(node, "mode", "DCR")
        return node.inputs[0], phase_table((block, block), target[0], channels_first=order == "CRD")
    if node.op_type != "Reshape":
        return None, None
    transpose = own_maker(node, "Transpose")
    split = None if transpose is None else own_maker(transpose, "Reshape")
    if transpose is None or split is None:
        return None, None
    source, parts = _sizes(split.inputs[0]), _sizes(split.outputs[0])
    order = attribute(transpose, "perm", ())
    if source is None or parts is None or len(source) != len(target) or len(order) != len(parts) + 1 or order[0] != 0:
        return None, None
    return split.inputs[0], _reshaped_table(source, parts, [axis - 1 for axis in order[1:]], target)


def _reshaped_table(
    source: tuple[int, ...], parts: tuple[int, ...], order: Sequence[int], target: tuple[int, ...]
) -> NDArray[np.int64] | None:
    """Return the table of Reshape to ``parts``, Transpose and Reshape to ``target``; None if it moves anything else.

    ``parts`` are factors of the channels and then the source's own axes. Transposed they must be C's factors, and for
    each axis its cells and then the factors of its stride.
    """
    rank = len(source) - 1
    factors, grid = parts[: len(parts) - rank], source[1:]
    wholes = all(large % small == 0 for large, small in zip(target[1:], grid, strict=True))
    if rank < 1 or parts[len(factors) :] != grid or math.prod(factors) != source[0] or not wholes:
        return None
    strides = [large // small for large, small in zip(target[1:], grid, strict=True)]
    left = [axis for axis in order if parts[axis] > 1]  # an axis of size 1 may be anywhere
    groups = [_taken(left, parts, len(factors), target[0])]
    for axis, stride in enumerate(strides):
        if grid[axis] > 1 and (not left or left.pop(0) != len(factors) + axis):
            return None
        groups.append(_taken(left, parts, len(factors), stride))
    if left or any(group is None for group in groups):
        return None
    channels, *phases = (group or [] for group in groups)
    ones = [axis for axis, factor in enumerate(factors) if factor == 1]
    places = np.arange(source[0]).reshape(factors)
    moved = places.transpose([*ones, *(axis for phase in phases for axis in phase), *channels])
    return moved.reshape(*strides, target[0])


def _taken(left: list[int], parts: Sequence[int], factors: int, product: int) -> list[int] | None:
    """Take factors from the front of ``left`` until their product is reached; None if it cannot be."""
    taken: list[int] = []
    while math.prod(parts[axis] for axis in taken) < product:
        if not left or left[0] >= factors:
            return None
        taken.append(left.pop(0))
    return taken if math.prod(parts[axis] for axis in taken) == product else None
