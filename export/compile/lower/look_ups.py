"""Look-ups of single values by Gather: OpenVINO runs it faster than GatherElements, and ONNX Runtime slower."""

from __future__ import annotations

import onnx_ir as ir

from gen_engine.export.graph import NodeBuilder, attribute, constant


def gather_look_ups(model: ir.Model) -> int:
    """Turn every GatherElements in a constant [1, M] along its last axis into a Gather in [M]: places are [1, B]."""
    changed, tables = 0, dict[str, ir.Value]()
    for node in tuple(model.graph):
        table = constant(node.inputs[0]) if node.op_type == "GatherElements" else None
        if table is None or table.ndim != 2 or len(table) != 1 or attribute(node, "axis", 0) not in (1, -1):
            continue
        builder = NodeBuilder(model, node)
        name = str(node.inputs[0].name) if node.inputs[0] is not None else ""
        if name not in tables:
            tables[name] = builder.constant(table[0])
        builder.replace(builder.op("Gather", [tables[name], node.inputs[1]], [1, None], {"axis": 0}))
        changed += 1
    return changed
