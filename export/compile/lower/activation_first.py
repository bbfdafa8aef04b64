"""Activations before the data movement that follows a convolution, so that a runtime fuses them into it.

An elementwise operator has the same result wherever in the tensor the value is.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from gen_engine.export.compile.lower.shuffle import crop_begins
from gen_engine.export.graph import NodeBuilder, attribute, constant, known_shape, only_user

MOVEMENTS = frozenset({"DepthToSpace", "Reshape", "Resize", "Slice", "Transpose"})
UNARY = frozenset(
    {
        *("Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish"),
        *("Neg", "Relu", "Round", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"),
    }
)
_WITH_A_NUMBER = frozenset({"Add", "Div", "Mul", "PRelu", "Sub"})
_KEEP_CHANNELS = frozenset({"Resize", "Slice"})


def is_elementwise(node: ir.Node) -> bool:
    """Return whether every output value depends on a single value of the node's moving input, wherever it is."""
    if node.op_type in UNARY:
        return all(constant(value) is not None for value in node.inputs[1:] if value is not None)
    if node.op_type in _WITH_A_NUMBER:
        numbers = [array for value in node.inputs if (array := constant(value)) is not None]
        return len(numbers) == 1 and numbers[0].size == 1
    return False


def is_channelwise(node: ir.Node) -> bool:
    """Tell whether every output value depends on one value and its channel alone: a scale or shift a channel."""
    numbers = [array for value in node.inputs if (array := constant(value)) is not None]
    if node.op_type == "BatchNormalization":
        return len(numbers) == 4 and len(node.outputs) == 1 and not attribute(node, "training_mode", 0)
    shape = known_shape(node.outputs[0])
    if node.op_type not in _WITH_A_NUMBER or len(numbers) != 1 or shape is None or len(shape) < 3:
        return False
    return numbers[0].shape in ((shape[1], *[1] * (len(shape) - 2)), (1, shape[1], *[1] * (len(shape) - 2)))


def moving_input(node: ir.Node) -> int:
    """Return which input of an elementwise node is not a constant."""
    return next(i for i, value in enumerate(node.inputs) if constant(value) is None)


def move_activations(model: ir.Model) -> int:
    """Move every elementwise operator before the movements that it follows."""
    return sum(move_before(model, node) for node in tuple(model.graph))


def move_before(model: ir.Model, node: ir.Node, movements: Collection[str] = MOVEMENTS) -> bool:
    """Move one elementwise node before all movements whose results only it uses; tell whether there were any."""
    if not is_elementwise(node):
        if not is_channelwise(node):
            return False
        movements = _KEEP_CHANNELS.intersection(movements)
    at = moving_input(node)
    last = node.inputs[at]
    value, chain = last, list[ir.Node]()
    while value is not None and (maker := _movement(node, value, movements)) is not None:
        chain.append(maker)
        value = maker.inputs[0]
    if chain and last is not None and value is not None:
        _exchange(model, node, at, chain)
    joined = "Reshape" in movements and _move_before_concat(model, node)
    return bool(chain) or joined


def copied(builder: NodeBuilder, node: ir.Node, value: ir.Value) -> ir.Value:
    """Return the output of a new node that does to ``value`` what an elementwise node does to its moving input."""
    inputs = list(node.inputs)
    inputs[moving_input(node)] = value
    attributes = {name: attr.value for name, attr in node.attributes.items()}
    result = builder.op(node.op_type, inputs, known_shape(value) or [], attributes)
    result.shape, result.type = value.shape, node.outputs[0].type
    return result


def _movement(node: ir.Node, value: ir.Value, movements: Collection[str]) -> ir.Node | None:
    """Return the movement that makes ``value``, if only ``node`` uses it and may as well come before."""
    maker = value.producer()
    if maker is None or maker.op_type not in movements or only_user(value) is None:
        return None
    source = maker.inputs[0]
    before, after = known_shape(source), known_shape(value)
    if source is None or before is None or after is None:
        return None
    if len(before) < max((array.ndim for v in node.inputs if (array := constant(v)) is not None), default=0):
        return None  # the number's axes would be the result's
    if maker.op_type == "Slice":  # of channels it would take a part, and the node have work with the others
        return maker if crop_begins(maker) is not None and only_user(source) is not None else None
    if maker.op_type == "Resize":
        nearest = attribute(maker, "mode", "nearest") == "nearest"
        beyond = attribute(maker, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
        grows = np.prod(np.array(after[1:], int)) >= np.prod(np.array(before[1:], int))
        return maker if nearest and not beyond and grows else None
    return maker


def _exchange(model: ir.Model, node: ir.Node, at: int, chain: list[ir.Node]) -> None:
    """Move a node before a chain: it reads the chain's input, the chain reads it, and its readers read the chain."""
    (result,), last, source = node.outputs, chain[0].outputs[0], chain[-1].inputs[0]
    assert source is not None
    node.replace_input_with(at, source)
    if result.is_graph_output():  # the name is part of the graph's interface
        result.name, last.name = last.name, result.name
        last.shape = result.shape
    ir.convenience.replace_all_uses_with(result, last, replace_graph_outputs=True)
    chain[-1].replace_input_with(0, result)
    result.shape = source.shape
    for moved in chain:
        moved.outputs[0].type = result.type
    model.graph.remove(node)
    model.graph.insert_before(chain[-1], node)


def _move_before_concat(model: ir.Model, node: ir.Node) -> bool:
    """Give every part of a Concat a node of its own, as convolutions that are interleaved need."""
    value = node.inputs[moving_input(node)]
    concat = None if value is None or only_user(value) is None else value.producer()
    if concat is None or concat.op_type != "Concat" or not is_elementwise(node):
        return False
    parts = [part for part in concat.inputs if part is not None and only_user(part) is not None]
    if len(parts) < len(concat.inputs) or any(part.producer() is None for part in parts):
        return False
    builder = NodeBuilder(model, concat)
    for i, part in enumerate(parts):
        made = copied(builder, node, part)
        concat.replace_input_with(i, made)
        made_node = made.producer()
        assert made_node is not None
        move_before(model, made_node)
    concat.outputs[0].type = node.outputs[0].type
    NodeBuilder(model, node).replace(concat.outputs[0])
    return True
