"""The schema of a dataset's samples, and batches of them.

A sample is a record of named fields. A field's *kind* says what its values mean and how they are stored; see
:mod:`gen_engine.engine.sample.kinds`. The generator's outputs, the label, the index, the seed and the latents are
all fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.parse import list_of
from gen_engine.engine.base.strict_json import DocumentError, show
from gen_engine.engine.sample.field import Field as Field

MAX_FIELDS = 10_000
RESERVED_NAMES = frozenset({"label", "labels", "index", "latents", "seed", "images", "samples", "shape"})
"""Names that the fields of a generator cannot have: formats use them for other columns and files."""


@dataclass(frozen=True)
class Ragged:
    """A column whose values differ in length: value i is ``values[offsets[i]:offsets[i + 1]]``.

    Text is UTF-8, and encoded files are bytes: ``values`` is uint8.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]
    """int64 [B + 1], ascending from 0."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: slice) -> Ragged:
        start, stop, step = rows.indices(len(self))
        assert step == 1, step
        offsets = self.offsets[start : max(start, stop) + 1]
        return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def copy(self) -> Ragged:
        """Return a copy that shares no memory with this one."""
        return Ragged(self.values.copy(), self.offsets.copy())

    def pieces(self) -> list[bytes]:
        """Return the bytes of each value."""
        data, size = np.ascontiguousarray(self.values).tobytes(), self.values.itemsize
        bounds = (self.offsets * size).tolist()
        return [data[start:stop] for start, stop in pairwise(bounds)]

    @classmethod
    def of_pieces(cls, pieces: Sequence[bytes]) -> Ragged:
        """Return a column of bytes."""
        offsets = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(pieces), np.uint8), offsets)

    @classmethod
    def of_text(cls, texts: Sequence[str]) -> Ragged:
        """Return a column of text."""
        return cls.of_pieces([text.encode() for text in texts])


Column: TypeAlias = NDArray[Any] | Ragged
"""A field's values of consecutive samples: an array [B, …], or ragged ones."""


@dataclass(frozen=True)
class Schema:
    """The fields of every sample of a dataset, in the order in which formats store them.

    Raises:
        ValueError: there is no field, or there are too many; names differ in case only, or titles are equal.
    """

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.fields) <= MAX_FIELDS:
            raise ValueError(f"{len(self.fields):,} fields: a sample has 1 to {MAX_FIELDS:,}")
        seen: dict[str, str] = {}
        for field in self.fields:
            key = field.name.casefold()
            if key in seen:
                raise ValueError(f"fields {seen[key]!r} and {field.name!r} have the same name, letter case aside")
            seen[key] = field.name
        titles = Counter(field.title for field in self.fields if field.title is not None)
        for title in (title for title, count in titles.items() if count > 1):
            names = " and ".join(field.name for field in self.fields if field.title == title)
            raise ValueError(f"fields {names} have the same title, {show(title)}: give each column a name of its own")

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, in order."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def outputs(self) -> tuple[Field, ...]:
        """The fields that a generator makes."""
        return tuple(field for field in self.fields if field.behaviour.generated)

    @cached_property
    def sole_output(self) -> Field | None:
        """The generator's field if it makes only one: formats then omit its name from file names."""
        return self.outputs[0] if len(self.outputs) == 1 else None

    @cached_property
    def is_table(self) -> bool:
        """Whether a sample is a row: all that a generator makes, and the label, are columns."""
        return bool(self.outputs) and all(
            field.is_column and field.form == "scalar" for field in (*self.outputs, *self.labels)
        )

    @cached_property
    def columns(self) -> tuple[Field, ...]:
        """What formats with named columns store: the index of a row of a table is its place, and no column."""
        return tuple(field for field in self.fields if not (self.is_table and field.kind == "index"))

    @property
    def labels(self) -> tuple[Field, ...]:
        """The label, if there is one."""
        return tuple(field for field in self.fields if field.kind == "label")

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes in order of their ids; None for a dataset without labels."""
        return self["label"].categories if "label" in self else None

    def to_json(self) -> list[dict[str, Any]]:
        """Return the fields as JSON."""
        return [field.to_json() for field in self.fields]

    @classmethod
    def from_json(cls, value: Any, where: str = "") -> Schema:
        """Read what :meth:`to_json` returned.

        Raises:
            DocumentError: the document is malformed.
        """
        fields = list_of(Field.from_json, 1, MAX_FIELDS)(value, where)
        try:
            return cls(fields)
        except ValueError as error:
            raise DocumentError(where, str(error)) from error

    @cached_property
    def _by_name(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.fields}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What all shards of a dataset have in common."""

    schema: Schema

    shards: int
    """How many shards the dataset has; some formats state it in every file's name."""


@dataclass(frozen=True)
class Batch:
    """Consecutive samples, as columns."""

    start: int
    """Index of the first one in the dataset."""

    columns: Mapping[str, Column]
    """Field name → its values, [B, …] each."""

    def __len__(self) -> int:
        for column in self.columns.values():
            return len(column)
        return 0

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    @property
    def stop(self) -> int:
        """Index after the last one."""
        return self.start + len(self)

    def rows(self, start: int, stop: int) -> Batch:
        """Return rows ``[start, stop)`` as views."""
        return Batch(self.start + start, {name: column[start:stop] for name, column in self.columns.items()})

    def copy(self) -> Batch:
        """Return a copy that shares no memory with this one."""
        return Batch(self.start, {name: column.copy() for name, column in self.columns.items()})


@dataclass(frozen=True)
class Record:
    """One sample as its shard stores it."""

    index: int

    values: Mapping[str, Any]
    """Field name → encoded bytes of a field that the dataset's codec holds; else a NumPy array, an integer, a float, a
    boolean or text."""


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Return consecutive batches as one, in new arrays. Ragged columns are joined too."""
    first = batches[0]
    return Batch(first.start, {name: join_columns([batch[name] for batch in batches]) for name in first.columns})


def join_columns(columns: Sequence[Column]) -> Column:
    """Return a field's consecutive columns as one, in new arrays."""
    ragged = [column for column in columns if isinstance(column, Ragged)]
    if ragged:
        return join_ragged(ragged)
    return np.concatenate([column for column in columns if not isinstance(column, Ragged)])


def join_ragged(ragged: Sequence[Ragged]) -> Ragged:
    """Return columns one after the other, in new arrays."""
    ends = np.cumsum([0, *(column.offsets[-1] for column in ragged)])
    offsets = [column.offsets[1:] + end for column, end in zip(ragged, ends, strict=False)]
    values = np.concatenate([column.values for column in ragged])
    return Ragged(values, np.concatenate([np.zeros(1, np.int64), *offsets]))
