"""The graph of trees: walks of a fixed number of steps, as `gen_engine.train.tables.trees.codes` does in NumPy."""

from __future__ import annotations

import numpy as np

from gen_engine.export.tables.builder import GraphBuilder
from gen_engine.train.tables.trees.codes import TreeCodes


def draw_tree_codes(codes: TreeCodes, graph: GraphBuilder, u_ZB: str, labels_B: str | None) -> str:
    """Add the walks and draws of all columns; return the name of the codes, int32 [D, B]."""
    arrays = codes.arrays
    uniforms = graph.split(u_ZB, [1] * codes.latents)
    if labels_B is None:
        class_1B = graph.cast(graph.op("Mul", uniforms[0], graph.scalar(0.0)), "int32")
    else:
        axis = graph.array(np.array([0], np.int64), "axis0")
        class_1B = graph.cast(graph.op("Unsqueeze", labels_B, axis), "int32")
    drawn = [class_1B]
    zero_1B = graph.op("Sub", class_1B, class_1B)
    for step, (root, depth) in enumerate(zip(arrays["root_D"].tolist(), arrays["depth_D"].tolist(), strict=True)):
        before_FB = drawn[0] if step == 0 else graph.op("Concat", *drawn, axis=0)
        drawn = [before_FB]
        node_1B = graph.op("Add", zero_1B, graph.array(np.array(root, np.int32)))
        for _ in range(depth):
            node_1B = _step(codes, graph, before_FB, node_1B)
        drawn.append(_draw_cell(codes, graph, node_1B, uniforms[step]))
    all_FB = graph.op("Concat", *drawn, axis=0)
    return graph.op("Gather", all_FB, graph.array(1 + np.argsort(arrays["order_D"])), axis=0)


def _step(codes: TreeCodes, graph: GraphBuilder, before_FB: str, node_1B: str) -> str:
    """Go from nodes to a child of each."""
    code_1B = graph.op("GatherElements", before_FB, _look_up(codes, graph, "feature_M", node_1B), axis=0)
    goes_right = graph.op("Greater", code_1B, _look_up(codes, graph, "threshold_M", node_1B))
    return graph.op("Add", _look_up(codes, graph, "left_M", node_1B), graph.cast(goes_right, "int32"))


def _draw_cell(codes: TreeCodes, graph: GraphBuilder, node_1B: str, u_1B: str) -> str:
    size_1B = _look_up(codes, graph, "cells_M", node_1B)
    scaled = graph.op("Mul", u_1B, graph.cast(size_1B, "float32"))
    last = graph.op("Sub", size_1B, graph.array(np.array(1, np.int32), "one"))
    cell = graph.op("Min", graph.cast(graph.op("Floor", scaled), "int32"), last)
    place = graph.op("Add", _look_up(codes, graph, "cell_first_M", node_1B), cell)
    fraction = graph.op("Sub", scaled, graph.cast(cell, "float32"))
    kept = graph.op("Less", fraction, _look_up(codes, graph, "keep_G", place))
    own, other = (graph.cast(_look_up(codes, graph, name, place), "int32") for name in ("code_G", "other_G"))
    return graph.op("Where", kept, own, other)


def _look_up(codes: TreeCodes, graph: GraphBuilder, name: str, places: str) -> str:
    return graph.look_up(codes.arrays[name], places, rows=1, name=name)
