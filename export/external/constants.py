"""Inputs that are fixed become constants of the graph: a truncation, a timestep, one condition for all samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.inputs import Port
from gen_engine.export.external.overrides import Constant
from gen_engine.export.graph import initializer


def bind_constants(model: ir.Model, ports: tuple[Port, ...], constants: Mapping[str, Constant]) -> ir.Model:
    """Return the graph without the inputs that are fixed.

    A value for an input with an axis for the batch is one row, which every sample gets.

    Args:
        model: the graph; it is not changed.
        ports: its inputs.
        constants: name of the input to its value.

    Raises:
        UnsupportedGenerator: there is no such input, or the value does not fit it.
    """
    by_name = {port.name: port for port in ports}
    for name in constants:
        if name not in by_name:
            there = ", ".join(map(str, ports)) or "none"
            raise UnsupportedGenerator(f"--constant {name}: the generator's inputs are {there}")
    bound = model.clone()
    inputs = {str(value.name): value for value in bound.graph.inputs}
    rows = next((inputs[port.name] for port in ports if port.name not in constants and not port.scalar), None)
    for name, value in constants.items():
        port, old = by_name[name], inputs[name]
        array = _row(port, value)
        bound.graph.inputs.remove(old)
        old.name = f"{name}_input"
        new = initializer(bound.graph, name, array if port.scalar else array[None])
        if not port.scalar and rows is not None:
            new = _repeated(bound.graph, name, new, rows, array.shape)
        ir.convenience.replace_all_uses_with(old, new)
    return bound


def _row(port: Port, value: Constant) -> NDArray[Any]:
    """Return a constant in the type and sizes of an input, without the batch."""
    array = np.asarray(value)
    if array.ndim == len(port.sizes) + 1 and len(array) == 1 and not port.scalar:
        array = array[0]
    sizes = tuple(
        stated if stated is not None else (array.shape[at] if array.ndim == len(port.sizes) else 1)
        for at, stated in enumerate(port.sizes)
    )
    if array.ndim and array.shape != sizes:
        raise UnsupportedGenerator(
            f"--constant {port.name}: an array of {list(array.shape)}, and the generator takes {port}, of which a "
            f"constant is one row, {list(sizes)}"
        )
    converted = array.astype(port.dtype)
    if port.dtype.kind in "iu" and not np.array_equal(converted, array):
        raise UnsupportedGenerator(f"--constant {port.name}={value}: the generator takes {port}, whole numbers")
    return np.ascontiguousarray(np.broadcast_to(converted, sizes))


def _repeated(graph: ir.Graph, name: str, value: ir.Value, rows: ir.Value, sizes: tuple[int, ...]) -> ir.Value:
    """Return a row once for each row of another input."""
    shape = ir.node("Shape", [rows])
    first = ir.node("Gather", [shape.outputs[0], initializer(graph, f"{name}_first", np.array([0], np.int64))])
    rest = initializer(graph, f"{name}_sizes", np.array(sizes, np.int64))
    whole = ir.node("Concat", [first.outputs[0], rest], attributes={"axis": 0})
    expanded = ir.node("Expand", [value, whole.outputs[0]])
    for made, suffix in ((shape, "shape"), (first, "rows"), (whole, "whole"), (expanded, "rows_of")):
        made.outputs[0].name = f"{name}_{suffix}"
    graph.insert_before(graph[0], [shape, first, whole, expanded])
    expanded.outputs[0].type = value.type
    return expanded.outputs[0]
