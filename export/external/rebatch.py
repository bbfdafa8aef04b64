"""A graph that was written for one batch, made to run at any: where its first sizes are the batch, they follow it.

Whether that is right is not decided here but by running: see :func:`same_rows`.

Shape suffixes: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.export.errors import quoted
from gen_engine.export.graph import attribute, constant, initializer
from gen_engine.export.session import Session

_SHAPES = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}
"""Operator → the input that holds a shape."""

BATCHES: Sequence[int] = (1, 2, 7, 64)
"""Sizes at which a graph is compared with itself; the last is beyond the batches that jobs use by default."""

_MAX_ROWS = 8
"""Rows compared of one batch: the first, the last, and those in between."""


def rebatched(model: ir.Model, batch: int) -> ir.Model:
    """Return the graph with a dynamic batch in the place of ``batch``, as the first size of all its inputs."""
    graph = model.clone()
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape(["batch", *value.shape[1:]])
    for node in tuple(graph.graph):
        at = _SHAPES.get(node.op_type)
        if at is not None and at < len(node.inputs):
            _follow(graph.graph, node, at, batch)
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = None
    return graph


def _follow(graph: ir.Graph, node: ir.Node, at: int, batch: int) -> None:
    """Make a shape that begins with the fixed batch begin with that of the inputs."""
    sizes = constant(node.inputs[at])
    if sizes is None or sizes.ndim != 1 or not len(sizes) or sizes[0] != batch:
        return
    name = f"{node.outputs[0].name}_{node.op_type}"
    if node.op_type == "Reshape" and not attribute(node, "allowzero", 0):
        first = 0 if -1 in sizes else -1
        node.replace_input_with(at, initializer(graph, f"{name}_shape", np.array([first, *sizes[1:]], np.int64)))
        return
    rows = ir.node("Shape", [graph.inputs[0]], attributes={"start": 0, "end": 1})
    whole = ir.node(
        "Concat",
        [rows.outputs[0], initializer(graph, f"{name}_rest", np.asarray(sizes[1:], np.int64))],
        attributes={"axis": 0},
    )
    rows.outputs[0].name, whole.outputs[0].name = f"{name}_rows", f"{name}_shape"
    graph.insert_before(node, [rows, whole])
    node.replace_input_with(at, whole.outputs[0])


def same_rows(
    whole: Session, alone: Session, feeds: Mapping[str, NDArray[Any]], batch: int, close: float
) -> str | None:
    """Return None if the rows of a batch are what the other graph makes of each alone, else what differs.

    Args:
        whole: runs all rows at once.
        alone: runs ``batch`` at a time, every row of which is the same one.
        feeds: inputs by name, of as many rows as ``whole`` is to run.
        batch: the batch of ``alone``.
        close: error that counts as equal, absolute and relative.
    """
    rows = len(next(iter(feeds.values())))
    try:
        made = whole(feeds)
        for row in np.unique(np.linspace(0, rows - 1, _MAX_ROWS).astype(int)):
            expected = alone({name: np.repeat(array[row : row + 1], batch, axis=0) for name, array in feeds.items()})
            for name, array in made.items():
                if not _same(array, expected[name], row, rows, batch, close):
                    return f"at batch {rows}, row {row} of {name} is not what it is alone"
    except Exception as error:  # ONNX Runtime's, of no common base
        return f"it fails at batch {rows}: {quoted(error)}"
    return None


def _same(array: NDArray[Any], expected: NDArray[Any], row: int, rows: int, batch: int, close: float) -> bool:
    if array.shape != (rows, *expected.shape[1:]) or len(expected) != batch:
        return False
    wanted = expected[0].astype(np.float64)
    return bool(np.allclose(array[row].astype(np.float64), wanted, rtol=close, atol=close, equal_nan=True))
