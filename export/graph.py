"""Graphs: one reader and one writer of them, their constants and shapes, and new nodes in the place of old ones.

Shapes are lists whose first entry, the batch, may be None; the rest is known, else the shape is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import LiftConstantsToInitializersPass


def parse(proto: onnx.ModelProto) -> ir.Model:
    """Return a graph, its constants as initializers."""
    model = ir.from_proto(proto)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return model


def serialize(model: ir.Model) -> bytes:
    """Return the ONNX file of a graph: the same bytes for the same graph."""
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def initializer(graph: ir.Graph, name: str, array: NDArray[Any] | np.generic) -> ir.Value:
    """Return a new constant of a graph."""
    whole = np.asarray(array, order="C")
    tensor = ir.Tensor(whole, name=name)
    value = ir.Value(name=name, shape=ir.Shape(whole.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """Return a value's numbers if they are known, as an initializer's are; an input with a default is not."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def known_shape(value: ir.Value | None) -> list[int | None] | None:
    """Return a value's shape if all but its batch is known."""
    if value is None or value.shape is None:
        return None
    sizes = [size if isinstance(size, int) else None for size in value.shape]
    return sizes if sizes and None not in sizes[1:] else None


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the one node that uses a value; None if it has several, is used twice, or is an output."""
    uses = tuple(value.uses())
    return uses[0][0] if len(uses) == 1 and not value.is_graph_output() else None


def own_maker(node: ir.Node, op_type: str) -> ir.Node | None:
    """Return the node of a type that makes a node's first input, if nothing else reads that."""
    value = node.inputs[0]
    maker = None if value is None or only_user(value) is None else value.producer()
    return maker if maker is not None and maker.op_type == op_type else None


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Return an attribute's value, or the default."""
    return node.attributes[name].value if name in node.attributes else default


class NodeBuilder:
    """Makes nodes just before one that they will replace, with names made from its output's: always the same.

    Args:
        model: the graph.
        node: the node to be replaced, of one output.
    """

    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        self._graph, self._node, self._made = model.graph, node, 0
        self._name = str(node.outputs[0].name)

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """Return a new initializer."""
        return initializer(self._graph, self._next_name(), array)

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shape: Sequence[int | None],
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Value:
        """Return the output of a new node; ``shape`` with None for the batch, its type that of its first input."""
        node = ir.node(op_type, inputs, attributes=dict(attributes or {}))
        (value,) = node.outputs
        value.name = self._next_name()
        batch = inputs[0].shape[0] if inputs[0] is not None and inputs[0].shape is not None else "batch"
        value.shape = ir.Shape([batch if size is None else size for size in shape])
        value.type = None if inputs[0] is None else inputs[0].type
        self._graph.insert_before(self._node, node)
        return value

    def reshape(self, value: ir.Value, sizes: Sequence[int]) -> ir.Value:
        """Return the value as [batch, *sizes]."""
        return self.op("Reshape", [value, self.constant(np.array([-1, *sizes], np.int64))], [None, *sizes])

    def transpose(self, value: ir.Value, order: Sequence[int]) -> ir.Value:
        """Return the value with its axes in another order."""
        shape = known_shape(value)
        assert shape is not None
        return self.op("Transpose", [value], [shape[axis] for axis in order], {"perm": list(order)})

    def crop(self, value: ir.Value, starts: Sequence[int], sizes: Sequence[int], first_axis: int = 2) -> ir.Value:
        """Return ``sizes`` of the axes from ``first_axis`` on, from ``starts``; the value itself if that is all."""
        shape = known_shape(value)
        assert shape is not None
        axes = [
            axis
            for axis, (start, size) in enumerate(zip(starts, sizes, strict=True), first_axis)
            if start or size != shape[axis]
        ]
        if not axes:
            return value
        begins = [starts[axis - first_axis] for axis in axes]
        ends = [starts[axis - first_axis] + sizes[axis - first_axis] for axis in axes]
        for axis in axes:
            shape[axis] = sizes[axis - first_axis]
        bounds = [self.constant(np.array(numbers, np.int64)) for numbers in (begins, ends, axes)]
        return self.op("Slice", [value, *bounds], shape)

    def replace(self, value: ir.Value) -> None:
        """Put ``value`` in the place of the node's output, and remove the node."""
        (old,) = self._node.outputs
        if old.is_graph_output():  # the name is part of the graph's interface
            if value.producer() is None or value.is_graph_output():
                value = self.op("Identity", [value], known_shape(value) or [])
            name, shape, dtype = old.name, old.shape, old.type
            old.name = f"{name}_before"
            value.name, value.shape, value.type = name, shape, dtype
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        self._graph.remove(self._node, safe=True)

    def _next_name(self) -> str:
        while True:  # another lowering may have added nodes here before
            self._made += 1
            name = f"{self._name}_{self._made}"
            if name not in self._graph.initializers:
                return name
