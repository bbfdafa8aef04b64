"""A fitted model of a table as arrays, and rows of it from latents: what the graph of a bundle computes, in NumPy.

Every uniform has the 24 bits of a float32, so a code is drawn by one (K ≤ 256: 8 bits choose the cell, 16 decide
between it and its alias), and a component and the category of a tail by two.

Latents, in order: 2 for the component; one for each column's code; one for each binned column's place in its bin; 2 for
each column with a tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.tables.coding import PIECES
from gen_engine.train.tables.values import LEAST

GROUPS = ("exact", "binned", "exact_real", "binned_real", "tail")
"""Columns are decoded together by how: int64 or float64, one look-up or a place in a piece, or a category of a tail."""


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """A column that is generated."""

    name: str
    kind: str
    """Kind of its field: float, integer, boolean, category, date, datetime or decimal."""

    dtype: str
    """Of its field."""

    group: str
    """One of GROUPS."""

    codes: int
    """K."""

    nullable: bool
    categories: tuple[str, ...] | None = None
    scale: int = 0
    """Of a decimal; of a float in an int64 group, the power of ten that its grid is divided by."""

    unit: str = "s"
    utc: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class TableModel:
    """A mixture per class, and its columns."""

    columns: tuple[ColumnSpec, ...]
    """In the order of GROUPS, and in a group in that of the table: column d of the arrays below."""

    order: tuple[int, ...]
    """Places of the table's columns in `columns`."""

    target: str | None
    """Name of the column that the classes are values of; it is not among the columns."""

    classes: tuple[str, ...]
    """Its values, or one empty name without a target."""

    class_weights: tuple[float, ...]
    """Shares of the rows."""

    arrays: Mapping[str, NDArray[Any]]
    """See `ARRAYS`."""

    @property
    def latent_dim(self) -> int:
        """Z."""
        return 2 + len(self.columns) + self.count("binned", "binned_real") + 2 * self.count("tail")

    def count(self, *groups: str) -> int:
        """How many columns are in these groups."""
        return sum(column.group in groups for column in self.columns)


ARRAYS = {
    "components_Y": "int32: components of each class",
    "component_first_Y": "int32: the first of them",
    "component_keep_C": "float32: alias tables of the components of each class",
    "component_alias_C": "int32: places in the class",
    "codes_D": "int32: K of each column",
    "cell_first_D": "int32: where a column's cells begin; those of component c begin c·K later",
    "keep_G": "float32: alias tables of all columns and components",
    "alias_G": "uint8: codes",
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
"""Arrays of a model: their dtypes and meaning. G cells, V values, P pieces, T tail columns, U categories in tails."""


def uniforms(latents_BZ: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return latents over (-1, 1) as uniforms over [0, 1], [Z, B]: a column's values are then contiguous."""
    return np.ascontiguousarray((latents_BZ.T + np.float32(1.0)) * np.float32(0.5))


def _draw(
    u: NDArray[np.float32],
    decide: NDArray[np.float32] | None,
    size: NDArray[np.int32],
    first: NDArray[np.int32],
    keep: NDArray[np.float32],
    alias: NDArray[Any],
) -> NDArray[np.int32]:
    """Draw from alias tables. `decide` is a second uniform; None: the fraction of the first one is."""
    scaled = u * size.astype(np.float32)
    cell = np.minimum(np.floor(scaled).astype(np.int32), size - 1)
    fraction = scaled - cell.astype(np.float32) if decide is None else decide
    place = first + cell
    drawn: NDArray[np.int32] = np.where(fraction < keep[place], cell, alias[place].astype(np.int32))
    return drawn


def draw_codes(model: TableModel, u_ZB: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return codes, int32 [D, B]."""
    a = model.arrays
    inside_B = _draw(
        u_ZB[0],
        u_ZB[1],
        a["components_Y"][labels_B],
        a["component_first_Y"][labels_B],
        a["component_keep_C"],
        a["component_alias_C"],
    )
    component_B = a["component_first_Y"][labels_B] + inside_B
    size_D1 = a["codes_D"][:, None]
    first_DB = a["cell_first_D"][:, None] + component_B[None] * size_D1
    return _draw(u_ZB[2 : 2 + len(size_D1)], None, size_D1, first_DB, a["keep_G"], a["alias_G"])


def draw_rows(
    model: TableModel, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None = None
) -> list[NDArray[Any]]:
    """Return rows, a column of its field's dtype [B] for each of `model.columns`.

    Args:
        model: the model.
        latents_BZ: float32 [B, Z] over (-1, 1).
        labels_B: classes; None without a target.
    """
    labels_B = np.zeros(len(latents_BZ), np.int64) if labels_B is None else labels_B
    u_ZB = uniforms(latents_BZ)
    codes_DB = draw_codes(model, u_ZB, labels_B)
    place_DB = model.arrays["value_first_D"][:, None]
    places = u_ZB[2 + len(codes_DB) :]
    binned = model.count("binned", "binned_real")
    groups, start, used = [], 0, 0
    for group in GROUPS:
        stop = start + model.count(group)
        at_DB = place_DB[start:stop]
        uses = stop - start if group.startswith("binned") else 0
        groups += list(_decode(model, group, codes_DB[start:stop], at_DB, places[used : used + uses], places[binned:]))
        start, used = stop, used + uses
    return [finish(column, values) for column, values in zip(model.columns, groups, strict=True)]


def _decode(
    model: TableModel,
    group: str,
    codes_DB: NDArray[np.int32],
    first_D1: NDArray[np.int32],
    places_DB: NDArray[np.float32],
    tails_2TB: NDArray[np.float32],
) -> NDArray[Any]:
    a = model.arrays
    if group in ("exact", "exact_real", "tail"):
        values_DB = a["reals_V" if group == "exact_real" else "values_V"][first_D1 + codes_DB]
        return _with_tails(model, codes_DB, values_DB, tails_2TB) if group == "tail" else values_DB
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
    model: TableModel, codes_TB: NDArray[np.int32], ids_TB: NDArray[Any], u_2TB: NDArray[np.float32]
) -> NDArray[Any]:
    a, count = model.arrays, len(codes_TB)
    first_T1 = a["tail_first_T"][:, None]
    drawn = _draw(
        u_2TB[:count], u_2TB[count:], a["tail_size_T"][:, None], first_T1, a["tail_keep_U"], a["tail_alias_U"]
    )
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
