"""The graph that turns codes into the values of columns: as `gen_engine.train.tables.decode` does in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from gen_engine.export.tables.builder import GraphBuilder, onnx_type
from gen_engine.export.tables.constraints import InGraph
from gen_engine.train.tables.coding import PIECES
from gen_engine.train.tables.columns import GROUPS, ColumnSpec
from gen_engine.train.tables.constraints.satisfy import satisfy
from gen_engine.train.tables.constraints.steps import Step, hidden_columns
from gen_engine.train.tables.decode import count
from gen_engine.train.tables.values import LEAST


def tensor_name(place: int) -> str:
    """Return the graph's output for the column at this place of ``TableModel.columns``."""
    return f"column{place}"


def decode(
    graph: GraphBuilder,
    columns: Sequence[ColumnSpec],
    arrays: Mapping[str, NDArray[Any]],
    codes_DB: str,
    u_ZB: str,
    steps: Sequence[Step] = (),
) -> None:
    """Add an output [batch] for each column.

    Args:
        graph: what is added to.
        columns: in the order of GROUPS.
        arrays: `gen_engine.train.tables.decode.VALUE_ARRAYS`.
        codes_DB: name of the codes, int32.
        u_ZB: name of the uniforms that decoding takes; empty if it takes none.
        steps: to values that satisfy the constraints.
    """
    tails = count(columns, "tail")
    sizes = [count(columns, group) for group in GROUPS]
    places = graph.split(u_ZB, [count(columns, "binned"), count(columns, "binned_real"), tails, tails])
    first_D1 = arrays["value_first_D"][:, None]
    axis, start, rows = graph.array(np.array([0], np.int64), "axis0"), 0, list[str]()
    for group, size, part in zip(GROUPS, sizes, graph.split(codes_DB, sizes), strict=True):
        stop = start + size
        if part:
            values = _decode(graph, arrays, group, part, first_D1[start:stop], places)
            rows += [graph.op("Squeeze", row, axis) for row in graph.split(values, [1] * size)]
        start = stop
    hidden = hidden_columns(steps)
    for place, value in enumerate(satisfy(InGraph(graph), steps, columns, rows)):
        if columns[place].name not in hidden:
            _finish(graph, columns[place], value, tensor_name(place))


def _decode(
    graph: GraphBuilder,
    arrays: Mapping[str, NDArray[Any]],
    group: str,
    codes_DB: str,
    first_D1: NDArray[Any],
    places: Sequence[str],
) -> str:
    rows = len(first_D1)
    if group in ("exact", "exact_real", "tail"):
        real = group == "exact_real"
        at = graph.op("Add", graph.array(first_D1), codes_DB)
        table = "reals_V" if real else "values_V"
        values = graph.look_up(arrays[table], at, rows=rows, name=table)
        return _with_tails(graph, arrays, codes_DB, values, *places[2:]) if group == "tail" else values
    real = group == "binned_real"
    scaled = graph.op("Mul", places[int(real)], graph.scalar(float(PIECES)))
    last = graph.array(np.array(PIECES - 1, np.int32), "last_piece")
    piece = graph.op("Min", graph.cast(graph.op("Floor", scaled), "int32"), last)
    fraction = graph.op("Sub", scaled, graph.cast(piece, "float32"))
    offset = graph.op("Mul", codes_DB, graph.array(np.array(PIECES, np.int32), "pieces"))
    at = graph.op("Add", graph.op("Add", graph.array(first_D1), offset), piece)
    if real:
        span = graph.look_up(arrays["span_real_P"], at, rows=rows)
        low = graph.look_up(arrays["low_real_P"], at, rows=rows)
        return graph.op("Add", low, graph.op("Mul", span, graph.cast(fraction, "float64")))
    span = graph.look_up(arrays["span_P"], at, rows=rows)
    low = graph.look_up(arrays["low_P"], at, rows=rows)
    steps = graph.cast(graph.op("Floor", graph.op("Mul", fraction, graph.cast(span, "float32"))), "int64")
    most = graph.op("Sub", span, graph.array(np.array(1, np.int64), "one64"))
    # Not Min: that of ONNX Runtime 1.31 is wrong for int64 from 2^31 on.
    return graph.op("Add", low, graph.op("Where", graph.op("Less", most, steps), most, steps))


def _with_tails(
    graph: GraphBuilder, arrays: Mapping[str, NDArray[Any]], codes_TB: str, ids_TB: str, u_TB: str, decide_TB: str
) -> str:
    tails = len(arrays["tail_first_T"])
    first = graph.array(arrays["tail_first_T"][:, None])
    size = graph.array(arrays["tail_size_T"][:, None])
    drawn = graph.draw(u_TB, decide_TB, size, first, arrays["tail_keep_U"], arrays["tail_alias_U"], rows=tails)
    ids = graph.look_up(arrays["tail_ids_U"], graph.op("Add", first, drawn), rows=tails)
    in_tail = graph.op("Equal", codes_TB, graph.array(arrays["tail_code_T"][:, None]))
    return graph.op("Where", in_tail, graph.cast(ids, "int64"), ids_TB)


def _finish(graph: GraphBuilder, column: ColumnSpec, value: str, name: str) -> None:
    """Make a column's values, [batch], an output of its dtype."""
    dtype = "float64" if column.is_real else "int64"
    if column.kind == "float" and not column.is_real:
        divisor = graph.array(np.array(10.0**column.scale), f"power{column.scale}")
        number = graph.op("Div", graph.cast(value, "float64"), divisor)
        if column.nullable:
            absent = graph.op("Equal", value, graph.array(np.array(LEAST, np.int64), "least"))
            number = graph.op("Where", absent, graph.array(np.array(np.nan), "nan"), number)
        value, dtype = number, "float64"
    if dtype == column.dtype:
        graph.nodes.append(helper.make_node("Identity", [value], [name]))
    else:
        graph.nodes.append(helper.make_node("Cast", [value], [name], to=onnx_type(column.dtype)))
