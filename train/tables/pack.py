"""What was fitted, packed into the arrays of `gen_engine.train.tables.generator.ARRAYS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.tables.alias import alias_of_one, alias_tables
from gen_engine.train.tables.coding import Coding
from gen_engine.train.tables.decide import Decision
from gen_engine.train.tables.generator import ColumnSpec
from gen_engine.train.tables.values import LEAST, Values


def column_spec(decision: Decision, values: Values, coding: Coding) -> ColumnSpec:
    """Return how a column is decoded, and what its field is."""
    group = coding.form if values.form != "real" else f"{coding.form}_real"
    grid_float = values.kind == "float" and values.form == "grid"
    return ColumnSpec(
        name=decision.name,
        kind=values.kind,
        dtype=values.dtype,
        group=group,
        codes=coding.codes,
        nullable=coding.missing,
        categories=values.categories if values.kind == "category" else None,
        scale=decision.scale if grid_float or values.kind == "decimal" else 0,
        unit=decision.unit,
        utc=decision.utc,
    )


def pack_cells(sizes: Sequence[int], frequencies_SC: Sequence[NDArray[np.float64]]) -> dict[str, NDArray[Any]]:
    """Return the alias tables of all columns.

    Args:
        sizes: K of each column.
        frequencies_SC: of each class, rows as the columns' codes one after the other.
    """
    components = sum(one.shape[1] for one in frequencies_SC)
    keep, alias, first, state = [], [], [], 0
    at = 0
    for size in sizes:
        weights_CK = np.concatenate([one[state : state + size].T for one in frequencies_SC])
        keep_CK, alias_CK = alias_tables(weights_CK)
        keep.append(keep_CK.ravel())
        alias.append(alias_CK.astype(np.uint8).ravel())
        first.append(at)
        at += components * size
        state += size
    return {
        "codes_D": np.array(sizes, np.int32),
        "cell_first_D": np.array(first, np.int32),
        "keep_G": np.concatenate(keep),
        "alias_G": np.concatenate(alias),
    }


def pack_components(weights: Sequence[NDArray[np.float64]]) -> dict[str, NDArray[Any]]:
    """Return the alias tables of each class's components."""
    tables = [alias_of_one(one) for one in weights]
    counts = np.array([len(one) for one in weights], np.int32)
    return {
        "components_Y": counts,
        "component_first_Y": (np.cumsum(counts) - counts).astype(np.int32),
        "component_keep_C": np.concatenate([keep for keep, _ in tables]),
        "component_alias_C": np.concatenate([alias for _, alias in tables]),
    }


def pack_values(specs: Sequence[ColumnSpec], codings: Sequence[Coding]) -> dict[str, NDArray[Any]]:
    """Return the values of all codes, and the tails."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _VALUES}
    first = []
    for spec, coding in zip(specs, codings, strict=True):
        low, span = _VALUE_ARRAYS[spec.group]
        first.append(sum(part.size for part in parts[low]))
        parts[low].append(_stored(spec, coding).ravel())
        if span is not None:
            parts[span].append(coding.span_KJ.ravel())
    arrays = {name: np.concatenate([np.zeros(0, kind), *parts[name]]).astype(kind) for name, kind in _VALUES.items()}
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


_VALUES: Mapping[str, type[np.generic]] = {
    "values_V": np.int64,
    "reals_V": np.float64,
    "low_P": np.int64,
    "span_P": np.int64,
    "low_real_P": np.float64,
    "span_real_P": np.float64,
}
_VALUE_ARRAYS: Mapping[str, tuple[str, str | None]] = {
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
        low_KJ[-1] = MISSING[spec.kind] if spec.kind in MISSING else np.iinfo(spec.dtype).min
    return low_KJ


MISSING: Mapping[str, int] = {"boolean": -1, "float": int(LEAST)}
"""Kind of a grid column → what its missing value is in the tables; of the others it is their dtype's least value."""
