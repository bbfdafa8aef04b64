"""What is said of a column that is generated: the field that holds it, and how its codes are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gen_engine.train.tables.coding import Coding
from gen_engine.train.tables.decide import Decision
from gen_engine.train.tables.values import LEAST, Values

GROUPS = ("exact", "binned", "exact_real", "binned_real", "tail")
"""Columns are decoded together by how: int64 or float64, one look-up or a place in a piece, or a category of a tail."""

MISSING: Mapping[str, int] = {"boolean": -1, "float": int(LEAST)}
"""Kind of a grid column → what its missing value is in the tables; of the others it is their dtype's least value."""


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

    @property
    def is_real(self) -> bool:
        """Whether its values are real floats, not integers."""
        return self.group.endswith("_real")

    @property
    def missing(self) -> int:
        """What stands for a missing value among integers; not of a category."""
        return MISSING[self.kind] if self.kind in MISSING else int(np.iinfo(self.dtype).min)


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
