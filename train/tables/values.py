"""A column of a table as numbers, with what is missing in it; every conversion is exact, or an error.

Three forms: *category*, ids of texts; *grid*, integers of 64 bits, which decimals, dates and floats with few digits are
multiples of; *real*, floats of 64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import DataError
from gen_engine.train.tables.arrow import arrow, first_line, plain
from gen_engine.train.tables.decide import Decision

LEAST = np.iinfo(np.int64).min
"""Stands for a missing value in a grid, so it is none of the values."""

_UNSIGNED = {"uint8": "int16", "uint16": "int32", "uint32": "int64"}
"""The integers that hold an unsigned column's values and a missing one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Values:
    """A column's values."""

    form: str
    """category, grid or real."""

    values_N: NDArray[Any]
    """int64 (category: ids, grid) or float64; of missing rows -1, LEAST and NaN."""

    missing_N: NDArray[np.bool_]
    categories: tuple[str, ...] = ()
    """Texts in order of their ids: numbers first, in their order."""

    kind: str
    """Kind of the field that holds them: float, integer, boolean, category, date, datetime or decimal."""

    dtype: str
    """Of the field, as stored."""


def read_values(column: Any, decision: Decision) -> Values:
    """Return a column that is not dropped.

    Args:
        column: `pyarrow.ChunkedArray`.
        decision: its type.

    Raises:
        DataError: a value is not of the type, or cannot be held exactly.
    """
    pa = arrow()
    chunks = [plain(chunk) for chunk in column.chunks if not pa.types.is_null(chunk.type)]
    empty = pa.nulls(len(column), pa.string())
    whole = pa.concat_arrays(chunks) if len(chunks) == column.num_chunks and chunks else None
    if whole is None:
        whole = (
            pa.concat_arrays(
                [
                    plain(one) if not pa.types.is_null(one.type) else pa.nulls(len(one), chunks[0].type)
                    for one in column.chunks
                ]
            )
            if chunks
            else empty
        )
    try:
        return _CONVERT[decision.type](whole, decision)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"column {decision.name!r} is not {_A[decision.type]} throughout: {first_line(error)}. Correct the values, "
            f"or declare it as another type with --column"
        ) from error


_A = {
    "float": "a number",
    "integer": "an integer of 64 bits",
    "boolean": "true or false",
    "category": "text",
    "date": "a date as 2024-12-31",
    "datetime": "a time as 2024-12-31T23:59:59",
    "decimal": "a decimal of at most 18 digits",
}


def _missing(column: Any) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False).astype(bool)
    return missing


def _grid(column: Any, kind: str, dtype: str) -> Values:
    """A column of int64, checked to leave room for the missing value."""
    missing_N = _missing(column)
    values_N = np.array(column.fill_null(LEAST).to_numpy(zero_copy_only=False), np.int64)
    values_N[missing_N] = LEAST
    return Values(form="grid", values_N=values_N, missing_N=missing_N, kind=kind, dtype=dtype)


def _floats(column: Any, decision: Decision) -> Values:
    pa = arrow()
    dtype = "float32" if pa.types.is_float32(column.type) else "float64"
    values_N = np.array(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False))
    infinite = np.flatnonzero(np.isinf(values_N))
    if len(infinite):
        raise DataError(
            f"column {decision.name!r} holds {values_N[infinite[0]]} ({len(infinite):,} infinite values): leave them "
            f"empty, or leave the column out with --column {decision.name}=drop"
        )
    missing_N = np.isnan(values_N)
    if 0 <= decision.scale <= 6 and dtype == "float64" and are_multiples(values_N[~missing_N], decision.scale):
        grid_N = np.full(len(values_N), LEAST)
        grid_N[~missing_N] = np.rint(values_N[~missing_N] * 10.0**decision.scale).astype(np.int64)
        return Values(form="grid", values_N=grid_N, missing_N=missing_N, kind="float", dtype=dtype)
    return Values(form="real", values_N=values_N, missing_N=missing_N, kind="float", dtype=dtype)


def are_multiples(values_N: NDArray[np.float64], scale: int) -> bool:
    """Whether floats are n / 10^scale, correctly rounded, with integers n that a float holds exactly.

    Args:
        values_N: finite.
        scale: 0 to 6.
    """
    grid_N = np.rint(values_N * 10.0**scale)
    return bool((np.abs(grid_N) < 2**53).all() and (grid_N / 10.0**scale == values_N).all())


def _integers(column: Any, decision: Decision) -> Values:
    pa = arrow()
    stated = str(column.type) if pa.types.is_integer(column.type) else "int64"
    values = _grid(column.cast(pa.int64()), "integer", stated)
    if values.missing_N.any():
        stated = _UNSIGNED.get(stated, "int64" if stated == "uint64" else stated)
        if (values.values_N[~values.missing_N] == np.iinfo(stated).min).any():
            if stated == "int64":
                raise DataError(
                    f"column {decision.name!r} holds {LEAST} and missing values, for which that number stands: "
                    "replace it"
                )
            stated = "int64"
    return Values(form="grid", values_N=values.values_N, missing_N=values.missing_N, kind="integer", dtype=stated)


def _booleans(column: Any, decision: Decision) -> Values:
    pa = arrow()
    values = _grid(column.cast(pa.bool_()).cast(pa.int8()).cast(pa.int64()), "boolean", "bool")
    dtype = "int8" if values.missing_N.any() else "bool"
    return Values(form="grid", values_N=values.values_N, missing_N=values.missing_N, kind="boolean", dtype=dtype)


def _dates(column: Any, decision: Decision) -> Values:
    pa = arrow()
    return _grid(column.cast(pa.date32()).cast(pa.int32()).cast(pa.int64()), "date", "int32")


def _datetimes(column: Any, decision: Decision) -> Values:
    pa = arrow()
    zone = "UTC" if decision.utc else None
    return _grid(column.cast(pa.timestamp(decision.unit, zone)).cast(pa.int64()), "datetime", "int64")


def _decimals(column: Any, decision: Decision) -> Values:
    pa = arrow()
    scale = max(decision.scale, 0)
    if pa.types.is_floating(column.type):
        raise DataError(f"column {decision.name!r} holds floats: declare it as float, or write decimals to the file")
    exact = column.cast(pa.decimal128(38, scale)).cast(pa.decimal128(18, scale))
    # The low words of 16-byte little-endian integers: 18 digits fit into 64 bits.
    words_N2 = np.frombuffer(exact.buffers()[1], np.int64, 2 * len(exact), 16 * exact.offset).reshape(-1, 2)
    return _grid(pa.array(words_N2[:, 0].copy(), mask=_missing(exact)), "decimal", "int64")


def _categories(column: Any, decision: Decision) -> Values:
    pa = arrow()
    encoded = column.cast(pa.string()).dictionary_encode()
    texts = [str(one) for one in encoded.dictionary.to_pylist()]
    order = sorted(range(len(texts)), key=lambda place: _order(texts[place]))
    places = np.empty(len(texts) + 1, np.int64)
    places[order] = np.arange(len(texts))
    places[-1] = -1
    ids_N = places[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    categories = tuple(texts[place] for place in order)
    for text in categories:
        if len(text) > 500 or "\0" in text:
            raise DataError(f"column {decision.name!r} has a category {text[:60]!r}…: at most 500 characters, no NUL")
    return Values(
        form="category", values_N=ids_N, missing_N=ids_N < 0, categories=categories, kind="category", dtype="int32"
    )


def _order(text: str) -> tuple[int, float, str]:
    """Numbers first, in their order."""
    try:
        number = float(text)
    except ValueError:
        return (1, 0.0, text)
    return (0, number, text) if number == number else (1, 0.0, text)


_CONVERT = {
    "float": _floats,
    "integer": _integers,
    "boolean": _booleans,
    "category": _categories,
    "date": _dates,
    "datetime": _datetimes,
    "decimal": _decimals,
}
