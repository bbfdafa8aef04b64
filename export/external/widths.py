"""What a graph's weights tell by looking: how wide a latent may be, and how many classes a table has.

Shape suffixes: none; nothing is run here.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from gen_engine.export.compile.precision import PRODUCTS
from gen_engine.export.graph import attribute, constant

_THROUGH = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_MOST = 12


def widths(model: onnx.ModelProto) -> tuple[int, ...]:
    """Return the sizes along which the first matrix products take their inputs, each once, in order."""
    found: dict[int, None] = {}
    for node in _read(model):
        if node.op_type not in PRODUCTS:
            continue
        weight = next((array for value in node.inputs if (array := constant(value)) is not None), None)
        if weight is None or weight.ndim < 2:
            continue
        reads = 1 if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)) else 0
        groups = attribute(node, "group", 1) if node.op_type == "Conv" else 1
        found[int(weight.shape[reads]) * groups] = None
    return tuple(found)[:_MOST]


def classes_of(model: onnx.ModelProto, label: str) -> int | None:
    """Return how many classes the table has that an input's ids are looked up in; None if there is no such table."""
    graph = _read(model)
    values = [value for value in graph.inputs if value.name == label]
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


def _read(model: onnx.ModelProto) -> ir.Graph:
    graph = ir.from_proto(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    return graph.graph
