"""The schema of a dataset's samples, and batches of them.

A sample is a record of named fields. A field's *kind* says what its values mean and how they are stored; see
:mod:`gen_engine.engine.sample.kinds`. The generator's outputs, the label, the index, the seed and the latents are
all fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.parse import Fields, integer, list_of, nullable, text
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.sample.kinds import kind_of
from gen_engine.engine.sample.kinds.contract import Form, Kind

MAX_FIELDS = 10_000
MAX_RANK = 8
MAX_VALUE_BYTES = 1 << 31
"""Limit of one decoded value of a field: a schema that exceeds it is refused before memory is allocated."""

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


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of every sample of a dataset.

    Raises:
        ValueError: the kind is unknown, or does not support the dtype, shape or categories.
    """

    name: str
    kind: str
    """One of :data:`gen_engine.engine.sample.kinds.KINDS`."""

    dtype: str
    """NumPy's name of the values' dtype, such as ``uint8``; ``string`` for text."""

    shape: tuple[int | None, ...] = ()
    """Shape of one sample's values, channels last; None for an axis whose length differs between samples."""

    categories: tuple[str, ...] | None = None
    """Names of the classes or categories in order of their ids."""

    NAME: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", re.ASCII)
    """What a field's name may be, so that every format can store it."""

    def __post_init__(self) -> None:
        if not self.NAME.fullmatch(self.name):
            raise ValueError(
                f"field name {self.name!r}: it must have 1 to 63 ASCII letters, digits, '_' or '-', and begin with a "
                "letter or '_'"
            )
        if len(self.shape) > MAX_RANK or any(
            size is not None and (type(size) is not int or size < 1) for size in self.shape
        ):
            raise ValueError(f"field {self.name}: shape {list(self.shape)}: every size is an integer of at least 1")
        self.behaviour.check(self)
        if self.value_bytes > MAX_VALUE_BYTES:
            raise ValueError(
                f"field {self.name}: a value of {self.dtype} {list(self.shape)} has {self.value_bytes:,} bytes, and "
                f"at most {MAX_VALUE_BYTES:,} are supported"
            )

    @property
    def behaviour(self) -> Kind:
        """The kind's implementation."""
        return kind_of(self.kind)

    @property
    def form(self) -> Form:
        """How writers store the values."""
        return self.behaviour.form

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """dtype of the stored values, little-endian; uint8, the bytes of UTF-8, for text."""
        return np.dtype("u1" if self.dtype == "string" else self.dtype).newbyteorder("<")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a field with no ragged axis."""
        assert None not in self.shape, self
        return tuple(size for size in self.shape if size is not None)

    @property
    def value_bytes(self) -> int:
        """Bytes of one sample's values, ragged axes counted as one."""
        return math.prod(size or 1 for size in self.shape) * self.numpy_dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """Return the field as JSON; ``categories`` is present only if it has some."""
        document = {"name": self.name, "kind": self.kind, "dtype": self.dtype, "shape": list(self.shape)}
        return document if self.categories is None else document | {"categories": list(self.categories)}

    @classmethod
    def from_json(cls, value: Any, where: str = "") -> Field:
        """Read what :meth:`to_json` returned.

        Raises:
            DocumentError: the document is malformed.
        """
        with Fields(value, where) as fields:
            given: dict[str, Any] = {
                "name": fields.take("name", text(63)),
                "kind": fields.take("kind", text(63)),
                "dtype": fields.take("dtype", text(20)),
                "shape": fields.take("shape", list_of(nullable(integer(1, MAX_VALUE_BYTES)), 0, MAX_RANK)),
                "categories": fields.take_optional("categories", list_of(text(), 1)),
            }
        try:
            return cls(**given)
        except ValueError as error:
            raise DocumentError(where, str(error)) from error


@dataclass(frozen=True)
class Schema:
    """The fields of every sample of a dataset, in the order in which formats store them.

    Raises:
        ValueError: there is no field, or there are too many, or names differ in case only.
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
