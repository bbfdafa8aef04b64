"""A set of rows to evaluate: synthetic, real training rows, or real test rows.

Shape suffixes: N rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Column, Field, Ragged, Schema, join_columns

Role: TypeAlias = Literal["synthetic", "train", "test"]


@dataclass(frozen=True, kw_only=True)
class NamedField(Field):
    """A field of someone else's data, whose name may be any text: it is never written to a file."""

    NAME: ClassVar[re.Pattern[str]] = re.compile(r"(?s).{1,1000}")


@dataclass(frozen=True, eq=False)
class Split:
    """Rows in memory, as columns. Splits of one evaluation have equal schemas.

    Args:
        role: what it is evaluated as.
        source: as the user named it, for messages and the report.
        schema: the fields of every row. Images are uint8 or uint16 [H, W, C]; a class label is a field of kind
            ``label`` or ``category`` with its categories; a table has a field per column.
        columns: field name → values [N, …]; missing numbers are NaN, missing categories -1.
        target: the field that a model predicts; None if there is none.
        notes: what was changed or left out when reading it, for the report.
    """

    role: Role
    source: str
    schema: Schema
    columns: Mapping[str, Column]
    target: str | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def take(self, rows_N: NDArray[np.intp]) -> Split:
        """Return these rows, copied."""
        columns: dict[str, Column] = {}
        for name, column in self.columns.items():
            if isinstance(column, Ragged):
                pieces = column.pieces()
                columns[name] = Ragged.of_pieces([pieces[row] for row in rows_N.tolist()])
            else:
                columns[name] = column[rows_N]
        return Split(self.role, self.source, self.schema, columns, self.target, self.notes)

    def joined(self, other: Split) -> Split:
        """Return these rows and then another split's of the same schema, copied, in this one's role."""
        columns = {name: join_columns([column, other[name]]) for name, column in self.columns.items()}
        return replace(self, columns=columns)

    @cached_property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that a model sees, and that distances are of: all but the target and bookkeeping."""
        return tuple(
            one for one in self.schema if one.name != self.target and one.kind not in ("index", "seed", "latents")
        )

    @property
    def image(self) -> Field | None:
        """The image field, if the rows are images; None for a table."""
        return next((one for one in self.inputs if one.kind == "image"), None)

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the target's classes in order of their ids; None without a target, or for a number."""
        return None if self.target is None else self.schema[self.target].categories

    @property
    def class_ids(self) -> NDArray[np.int64] | None:
        """The target's class ids, int64 [N]; None without classes."""
        if self.target is None or self.classes is None:
            return None
        class_ids: Any = self.columns[self.target]
        return np.asarray(class_ids, np.int64)

    @property
    def target_values(self) -> NDArray[np.float64] | None:
        """The target's values for regression, float64 [N]; None without a target, or for classes."""
        if self.target is None or self.classes is not None:
            return None
        values: Any = self.columns[self.target]
        return np.asarray(values, np.float64)
