"""The conversion to uint8 before the last data movement, which then moves bytes, straight to channels last.

The conversion is that of :func:`gen_engine.export.torch_graph.to_pixels`: a scale, a shift, a rounding, a clip and a
cast. All are elementwise, so they may come before the values are moved.
"""

from __future__ import annotations

import onnx_ir as ir

from gen_engine.engine.identity.bundle import PIXELS_OUTPUT
from gen_engine.export.compile.lower.activation_first import copied, is_elementwise, moving_input
from gen_engine.export.compile.lower.shuffle import Shuffle, read_shuffle
from gen_engine.export.graph import NodeBuilder, attribute, known_shape, only_user


def move_pixels(model: ir.Model) -> int:
    """Convert before the last depth-to-space, and make it write NHWC; or before the Reshape of a dense generator."""
    last = next((value.producer() for value in model.graph.outputs if value.name == PIXELS_OUTPUT), None)
    if last is None or not _puts_channels_last(last):
        return 0
    tail, value = _tail(last)
    casts = [attribute(node, "to", None) for node in tail if node.op_type == "Cast"]
    if value is None or only_user(value) is None or casts != [int(ir.DataType.UINT8)]:
        return 0
    shuffle = read_shuffle(value)
    if shuffle is None:
        return _before_reshape(model, tail, value)
    if not shuffle.phases_first and not shuffle.channels_first:
        return 0
    builder, value = NodeBuilder(model, last), shuffle.source
    for node in reversed(tail):
        value = copied(builder, node, value)
    builder.replace(_moved(builder, value, shuffle))
    return 1


def _puts_channels_last(node: ir.Node) -> bool:
    order = list(attribute(node, "perm", ()))
    return node.op_type == "Transpose" and len(order) > 2 and order == [0, *range(2, len(order)), 1]


def _tail(last: ir.Node) -> tuple[list[ir.Node], ir.Value | None]:
    """Return the operators that convert, the last one first, and what the first one reads."""
    tail: list[ir.Node] = []
    value = last.inputs[0]
    while value is not None and only_user(value) is not None and (maker := value.producer()) is not None:
        if maker.op_type != "Cast" and not is_elementwise(maker):
            break
        tail.append(maker)
        value = maker.inputs[moving_input(maker)]
    return tail, value


def _before_reshape(model: ir.Model, tail: list[ir.Node], value: ir.Value) -> int:
    """Convert what a Reshape reads instead of what it makes: a runtime then joins it to the activation before."""
    reshape, shape = value.producer(), known_shape(value)
    source = None if reshape is None or reshape.op_type != "Reshape" else reshape.inputs[0]
    if source is None or shape is None or known_shape(source) is None:
        return 0
    builder = NodeBuilder(model, tail[0])
    for node in reversed(tail):
        source = copied(builder, node, source)
    builder.replace(builder.reshape(source, [size for size in shape[1:] if size is not None]))
    return 1


def _moved(builder: NodeBuilder, value: ir.Value, shuffle: Shuffle) -> ir.Value:
    """Return [B, sizes…, C] of the phases: one transposition between two reshapes, then the crop."""
    n, strides, grid, channels = len(shuffle.grid), shuffle.strides, shuffle.grid, shuffle.channels
    if shuffle.phases_first:
        apart, first, channel = [*strides, channels, *grid], 1, n + 1
    else:
        apart, first, channel = [channels, *strides, *grid], 2, 1
    order = [0]
    for i in range(n):
        order += [n + 2 + i, first + i]
    moved = builder.transpose(builder.reshape(value, apart), [*order, channel])
    whole = builder.reshape(moved, [*(q * s for q, s in zip(grid, strides, strict=True)), channels])
    assert known_shape(whole) is not None
    return builder.crop(whole, shuffle.start, shuffle.sizes, first_axis=1)
