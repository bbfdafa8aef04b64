"""What readers return: images as a split, or a table whose columns have no kinds yet.

Shape suffix: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Column, Schema
from gen_engine.evaluate.data.options import DataOptions
from gen_engine.evaluate.split import Role, Split


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a table as Arrow read them. What its columns mean is decided for all sides together."""

    role: Role
    source: str
    arrow: Any
    """A ``pyarrow.Table``."""

    notes: tuple[str, ...] = ()
    labels: frozenset[str] = field(default_factory=frozenset)
    """Columns that are stated to hold classes."""

    def __len__(self) -> int:
        return int(self.arrow.num_rows)


Rows: TypeAlias = Split | Table


def image_split(role: Role, source: str, schema: Schema, columns: dict[str, Column], notes: tuple[str, ...]) -> Split:
    """Return rows with images; their label, if they have one, is the target."""
    return Split(role, source, schema, columns, "label" if "label" in schema else None, notes)


def chosen_rows(count: int, row_bytes: int, role: Role, options: DataOptions) -> NDArray[np.intp]:
    """Return which rows of a side are read, ascending: of the synthetic one at most as many as were asked for."""
    most = max(2, options.memory // max(1, row_bytes))
    if role == "synthetic":
        most = min(most, options.rows)
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng([options.seed, count]).choice(count, most, replace=False))


def drawn_note(count: int, read: int) -> tuple[str, ...]:
    """Return a note if not all rows were read."""
    return () if read == count else (f"{read:,} of {count:,} rows were drawn at random and read",)
