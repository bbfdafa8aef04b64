"""Codes to values: the arrays that decode a table's columns, and in NumPy the look-ups of a bundle's graph.

Uniforms, in order: one for each binned column's place in its bin; two for each column with a tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.tables.alias import alias_of_one, draw
from gen_engine.train.tables.arrays import check_dtypes, check_lengths
from gen_engine.train.tables.coding import PIECES, Coding
from gen_engine.train.tables.columns import GROUPS, ColumnSpec
from gen_engine.train.tables.constraints.arithmetic import NUMPY
from gen_engine.train.tables.constraints.satisfy import satisfy
from gen_engine.train.tables.constraints.steps import Step
from gen_engine.train.tables.values import LEAST

VALUE_ARRAYS: Mapping[str, str] = {
    "value_first_D": "int32: where the values of a column's codes begin in those of its kind below",
    "values_V": "int64: of the codes of exact and tail columns",
    "reals_V": "float64: of exact_real columns",
    "low_P": "int64: first value of the pieces of binned columns, PIECES for each code",
    "span_P": "int64: how many values they have",
    "low_real_P": "float64: the same of binned_real columns",
    "span_real_P": "float64: their lengths",
    "tail_code_T": "int32: the code that stands for the tail, of each tail column",
    "tail_size_T": "int32: its categories",
    "tail_first_T": "int32: where they begin below",
    "tail_keep_U": "float32: alias tables",
    "tail_alias_U": "int32: places in the tail",
    "tail_ids_U": "int32: ids of the categories",
}
"""Their dtypes and meaning. V values, P pieces, T tail columns, U categories in tails."""


def count(columns: Sequence[ColumnSpec], *groups: str) -> int:
    """Return how many columns are in these groups."""
    return sum(column.group in groups for column in columns)


def value_latents(columns: Sequence[ColumnSpec]) -> int:
    """Return how many uniforms decoding takes."""
    return count(columns, "binned", "binned_real") + 2 * count(columns, "tail")


def pack_values(specs: Sequence[ColumnSpec], codings: Sequence[Coding]) -> dict[str, NDArray[Any]]:
    """Return the values of all codes, and the tails."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _KINDS}
    first = []
    for spec, coding in zip(specs, codings, strict=True):
        low, span = _PIECES_OF[spec.group]
        first.append(sum(part.size for part in parts[low]))
        parts[low].append(_stored(spec, coding).ravel())
        if span is not None:
            parts[span].append(coding.span_KJ.ravel())
    arrays = {name: np.concatenate([np.zeros(0, kind), *parts[name]]).astype(kind) for name, kind in _KINDS.items()}
    tails = [coding for spec, coding in zip(specs, codings, strict=True) if spec.group == "tail"]
    tables = [alias_of_one(coding.tail_weights) for coding in tails]
    sizes = np.array([len(coding.tail_ids) for coding in tails], np.int32)
    return arrays | {
        "value_first_D": np.array(first, np.int32),
        "tail_code_T": np.array([coding.tail for coding in tails], np.int32),
        "tail_size_T": sizes,
        "tail_first_T": (np.cumsum(sizes) - sizes).astype(np.int32),
        "tail_keep_U": np.concatenate([np.zeros(0, np.float32), *(keep for keep, _ in tables)]),
        "tail_alias_U": np.concatenate([np.zeros(0, np.int32), *(alias for _, alias in tables)]),
        "tail_ids_U": np.concatenate([np.zeros(0, np.int32), *(coding.tail_ids for coding in tails)]),
    }


_KINDS: Mapping[str, type[np.generic]] = {
    "values_V": np.int64,
    "reals_V": np.float64,
    "low_P": np.int64,
    "span_P": np.int64,
    "low_real_P": np.float64,
    "span_real_P": np.float64,
}
_PIECES_OF: Mapping[str, tuple[str, str | None]] = {
    "exact": ("values_V", None),
    "tail": ("values_V", None),
    "exact_real": ("reals_V", None),
    "binned": ("low_P", "span_P"),
    "binned_real": ("low_real_P", "span_real_P"),
}


def _stored(spec: ColumnSpec, coding: Coding) -> NDArray[Any]:
    """Return the values of a column's codes, the missing one as its field stores it."""
    low_KJ = coding.low_KJ.copy()
    if spec.nullable and low_KJ.dtype == np.int64 and spec.kind != "category":
        low_KJ[-1] = spec.missing
    return low_KJ


def check_values(columns: Sequence[ColumnSpec], arrays: Mapping[str, NDArray[Any]]) -> None:
    """ValueError unless all look-ups of decoding are inside the arrays."""
    check_dtypes(arrays, VALUE_ARRAYS)
    tails = count(columns, "tail")
    used = dict.fromkeys(_KINDS, 0)
    if len(arrays["value_first_D"]) != len(columns):
        raise ValueError("its record has other columns")
    for one, first in zip(columns, arrays["value_first_D"].tolist(), strict=True):
        low, span = _PIECES_OF[one.group]
        if first != used[low]:
            raise ValueError(f"the values of {one.name!r} begin at {first}")
        used[low] += one.codes * (1 if span is None else PIECES)
        if span is not None:
            used[span] = used[low]
    sizes = dict.fromkeys(("tail_code_T", "tail_size_T", "tail_first_T"), tails)
    categories = len(arrays["tail_keep_U"])
    check_lengths(arrays, used | sizes | {"tail_alias_U": categories, "tail_ids_U": categories})


def decode(
    columns: Sequence[ColumnSpec],
    arrays: Mapping[str, NDArray[Any]],
    codes_DB: NDArray[np.int32],
    u_ZB: NDArray[np.float32],
    steps: Sequence[Step] = (),
) -> list[NDArray[Any]]:
    """Return the values of codes, a column of its field's dtype [B] for each of `columns`.

    Args:
        columns: in the order of GROUPS.
        arrays: VALUE_ARRAYS.
        codes_DB: int32.
        u_ZB: float32 over [0, 1], as many rows as :func:`value_latents` says.
        steps: to values that satisfy the constraints.
    """
    first_D1 = arrays["value_first_D"][:, None]
    tails_2TB = u_ZB[count(columns, "binned", "binned_real") :]
    groups, start, used = [], 0, 0
    for group in GROUPS:
        stop = start + count(columns, group)
        uses = stop - start if group.startswith("binned") else 0
        places_DB = u_ZB[used : used + uses]
        groups += list(_decode(arrays, group, codes_DB[start:stop], first_D1[start:stop], places_DB, tails_2TB))
        start, used = stop, used + uses
    satisfied = satisfy(NUMPY, steps, columns, groups)
    return [finish(column, values) for column, values in zip(columns, satisfied, strict=True)]


def _decode(
    a: Mapping[str, NDArray[Any]],
    group: str,
    codes_DB: NDArray[np.int32],
    first_D1: NDArray[np.int32],
    places_DB: NDArray[np.float32],
    tails_2TB: NDArray[np.float32],
) -> NDArray[Any]:
    if group in ("exact", "exact_real", "tail"):
        values_DB = a["reals_V" if group == "exact_real" else "values_V"][first_D1 + codes_DB]
        return _with_tails(a, codes_DB, values_DB, tails_2TB) if group == "tail" else values_DB
    real = group == "binned_real"
    scaled = places_DB * np.float32(PIECES)
    piece = np.minimum(np.floor(scaled).astype(np.int32), PIECES - 1)
    fraction = scaled - piece.astype(np.float32)
    at = first_D1 + codes_DB * np.int32(PIECES) + piece
    if real:
        made: NDArray[Any] = a["low_real_P"][at] + a["span_real_P"][at] * fraction.astype(np.float64)
        return made
    span = a["span_P"][at]
    steps = np.floor(fraction * span.astype(np.float32)).astype(np.int64)
    whole: NDArray[Any] = a["low_P"][at] + np.minimum(steps, span - 1)
    return whole


def _with_tails(
    a: Mapping[str, NDArray[Any]], codes_TB: NDArray[np.int32], ids_TB: NDArray[Any], u_2TB: NDArray[np.float32]
) -> NDArray[Any]:
    tails = len(codes_TB)
    first_T1 = a["tail_first_T"][:, None]
    drawn = draw(u_2TB[:tails], u_2TB[tails:], a["tail_size_T"][:, None], first_T1, a["tail_keep_U"], a["tail_alias_U"])
    chosen = a["tail_ids_U"][first_T1 + drawn].astype(np.int64)
    made: NDArray[Any] = np.where(codes_TB == a["tail_code_T"][:, None], chosen, ids_TB)
    return made


def finish(column: ColumnSpec, values_B: NDArray[Any]) -> NDArray[Any]:
    """Return decoded values as the column's field stores them."""
    if column.kind == "float" and values_B.dtype == np.int64:
        made = values_B.astype(np.float64) / 10.0**column.scale
        made = np.where(values_B == LEAST, np.nan, made) if column.nullable else made
        return made.astype(column.dtype)
    return values_B.astype(column.dtype)
