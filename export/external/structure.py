"""What a graph's structure shows without running it: widths of latents, classes of a table, bounds of an output."""

from __future__ import annotations

import onnx_ir as ir

from gen_engine.export.compile.precision import PRODUCTS
from gen_engine.export.graph import attribute, constant

_THROUGH = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_MOVES = frozenset({"Slice", "Transpose", "Crop", "DepthToSpace", "Unsqueeze"})
_BOUNDED = {
    "Cos": (-1.0, 1.0),
    "Erf": (-1.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
    "Sigmoid": (0.0, 1.0),
    "Sin": (-1.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Softsign": (-1.0, 1.0),
    "Tanh": (-1.0, 1.0),
}
"""Operators that bound what they make."""

_MAX_WIDTHS = 12
_MAX_STEPS = 24


def widths(model: ir.Model) -> tuple[int, ...]:
    """Return the sizes along which the first matrix products take their inputs, each once, in order."""
    sizes: dict[int, None] = {}
    for node in model.graph:
        if node.op_type not in PRODUCTS:
            continue
        weight = next((array for value in node.inputs if (array := constant(value)) is not None), None)
        if weight is None or weight.ndim < 2:
            continue
        reads = 1 if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)) else 0
        groups = attribute(node, "group", 1) if node.op_type == "Conv" else 1
        sizes[int(weight.shape[reads]) * groups] = None
    return tuple(sizes)[:_MAX_WIDTHS]


def classes_of(model: ir.Model, label: str) -> int | None:
    """Return the number of rows of the table in which an input's ids are looked up; None without such a table."""
    values = [value for value in model.graph.inputs if value.name == label]
    for value in values:  # grows: what the ids become on the way
        for node, at in value.uses():
            if node.op_type in _THROUGH and at == 0:
                values.append(node.outputs[0])
            table = constant(node.inputs[0]) if node.op_type == "Gather" and at == 1 else None
            if table is not None and table.ndim and attribute(node, "axis", 0) == 0:
                return int(table.shape[0])
            depth = constant(node.inputs[1]) if node.op_type == "OneHot" and at == 0 else None
            if depth is not None:
                return int(depth.reshape(-1)[0])
    return None


def last_interval(model: ir.Model, output: str) -> tuple[float, float] | None:
    """Return the bounds that a graph's last operators put on an output, None where they put none.

    An activation such as Tanh bounds its result; scales and shifts by a constant move the bounds.
    """
    value = next(value for value in model.graph.outputs if value.name == output)
    return _interval(value, _MAX_STEPS)


def _interval(value: ir.Value | None, steps: int) -> tuple[float, float] | None:
    node = None if value is None else value.producer()
    if node is None or not steps:
        return None
    if node.op_type in _BOUNDED:
        return _BOUNDED[node.op_type]
    if node.op_type == "Clip":
        return _clip_bounds(node)
    if node.op_type == "Concat":
        parts = [_interval(part, steps - 1) for part in node.inputs]
        known = [part for part in parts if part is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if len(known) == len(parts) else None
    if node.op_type in _THROUGH or node.op_type in _MOVES:
        return _interval(node.inputs[0], steps - 1)
    if node.op_type in ("Add", "Sub", "Mul", "Div"):
        return _moved(node, steps - 1)
    return None


def _moved(node: ir.Node, steps: int) -> tuple[float, float] | None:
    """Return the bounds behind a scale or a shift by one number."""
    first, second = constant(node.inputs[0]), constant(node.inputs[1])
    number = first if first is not None else second
    within = _interval(node.inputs[1 if first is not None else 0], steps)
    if number is None or within is None or number.size != 1 or (first is not None and node.op_type == "Div"):
        return None
    by = float(number.reshape(-1)[0])
    if node.op_type == "Div" and by == 0:
        return None
    ends = {
        "Add": lambda x: x + by,
        "Sub": lambda x: by - x if first is not None else x - by,
        "Mul": lambda x: x * by,
        "Div": lambda x: x / by,
    }[node.op_type]
    low, high = sorted(map(ends, within))
    return low, high


def _clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    bounds: list[float] = []
    for at, name in ((1, "min"), (2, "max")):
        stated = attribute(node, name, None)
        known = constant(node.inputs[at]) if at < len(node.inputs) else None
        if stated is None and known is None:
            return None
        bounds.append(float(stated if stated is not None else known.reshape(-1)[0]))  # type: ignore[union-attr]
    return bounds[0], bounds[1]
