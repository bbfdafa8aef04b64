"""The graph of a network that makes codes, as `gen_engine.train.tables.networks.codes` computes them in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gen_engine.export.tables.builder import GraphBuilder
from gen_engine.train.tables.networks.codes import EDGE, LARGEST, SCALE, NetworkCodes
from gen_engine.train.tables.networks.layout import Group


def draw_network_codes(codes: NetworkCodes, graph: GraphBuilder, u_ZB: str, labels_B: str | None) -> str:
    """Add the layers and the draws of all columns; return the name of the codes, int32 [D, B]."""
    conditions = [1, 1] if codes.conditional else [0, 0]
    u_LB, inside, decide, u_DB = graph.split(u_ZB, [codes.size, *conditions, len(codes.sizes)])
    arrays = codes.arrays
    z_LB, added_HB = _logistic(graph, u_LB), _of_class(codes, graph, labels_B)
    if codes.conditional:
        chosen_B = _condition(codes, graph, inside, decide, labels_B)
        added_HB = graph.op("Add", added_HB, _rows_of(graph, arrays["condition_CH"], "condition_CH", chosen_B))
        if SCALE in arrays:
            z_LB = graph.op("Mul", z_LB, _rows_of(graph, arrays[SCALE], SCALE, chosen_B))
    value_HB = graph.op("Add", graph.op("MatMul", graph.array(arrays["latents_HL"], "latents_HL"), z_LB), added_HB)
    for weight, bias in codes.layers:
        product = graph.op("MatMul", graph.array(weight), graph.op("Relu", value_HB))
        value_HB = graph.op("Add", product, graph.array(bias[:, None]))
    logits = graph.split(value_HB, [group.values for group in codes.groups])
    uniforms = graph.split(u_DB, [len(group.columns) for group in codes.groups])
    drawn = [
        _draw_group(codes.sizes, graph, group, *pair)
        for group, *pair in zip(codes.groups, logits, uniforms, strict=True)
    ]
    joined = drawn[0] if len(drawn) == 1 else graph.op("Concat", *drawn, axis=0)
    order = np.argsort([column for group in codes.groups for column in group.columns])
    return graph.op("Gather", joined, graph.array(order), axis=0)


def _logistic(graph: GraphBuilder, u_LB: str) -> str:
    inside = graph.op("Clip", u_LB, graph.array(np.array(EDGE)), graph.array(np.array(np.float32(1) - EDGE)))
    other = graph.op("Sub", graph.scalar(1.0), inside)
    return graph.op("Sub", graph.op("Log", inside), graph.op("Log", other))


def _of_class(codes: NetworkCodes, graph: GraphBuilder, labels_B: str | None) -> str:
    table_YH = codes.arrays["class_YH"]
    if labels_B is None:
        return graph.array(table_YH[0][:, None])
    return _rows_of(graph, table_YH, "class_YH", labels_B)


def _rows_of(graph: GraphBuilder, table: NDArray[np.float32], name: str, places_B: str) -> str:
    """Return rows of a table as columns. Copying rows and turning them is faster than a Gather of single values."""
    return graph.op("Transpose", graph.op("Gather", graph.array(table, name), places_B, axis=0), perm=[1, 0])


def _condition(codes: NetworkCodes, graph: GraphBuilder, inside: str, decide: str, labels_B: str | None) -> str:
    keep_YC, alias_YC = codes.arrays["condition_keep_YC"], codes.arrays["condition_alias_YC"]
    size = graph.array(np.array([keep_YC.shape[1]], np.int32))
    if labels_B is None:
        first = graph.array(np.array([0], np.int32))
    else:
        first = graph.op("Mul", graph.cast(labels_B, "int32"), size)
    chosen_1B = graph.draw(inside, decide, size, first, keep_YC.ravel(), alias_YC.ravel(), rows=1)
    return graph.op("Squeeze", chosen_1B, graph.array(np.array([0], np.int64), "axis0"))


def _draw_group(sizes: Sequence[int], graph: GraphBuilder, group: Group, logits_PB: str, u_CB: str) -> str:
    """Draw the columns of a group; return the name of their codes, int32 [C, B]."""
    count, width = len(group.columns), group.width
    shaped = graph.op("Reshape", logits_PB, graph.array(np.array([count, width, -1])))
    inside = graph.op("Clip", shaped, graph.scalar(float(-LARGEST)), graph.scalar(float(LARGEST)))
    # A product with a triangle adds up faster than CumSum, whose inner loop has the stride of the batch.
    triangle = graph.array(np.tril(np.ones((width, width), np.float32)), f"triangle{width}")
    sums_CWB = graph.op("MatMul", triangle, graph.op("Exp", inside))
    axis = graph.array(np.array([1], np.int64), "axis1")
    ends = [graph.array(np.array([place], np.int64)) for place in (width - 1, width)]
    total_C1B = graph.op("Slice", sums_CWB, *ends, axis)
    limit_C1B = graph.op("Mul", graph.op("Unsqueeze", u_CB, axis), total_C1B)
    below = graph.cast(graph.op("LessOrEqual", sums_CWB, limit_C1B), "float32")
    codes_CB = graph.cast(graph.op("ReduceSum", below, axis, keepdims=0), "int32")
    last = np.array([[sizes[column] - 1] for column in group.columns], np.int32)
    return graph.op("Min", codes_CB, graph.array(last))
