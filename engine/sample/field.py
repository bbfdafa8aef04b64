"""One field of every sample: its name, its kind, and how its values are stored."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.parse import (
    Fields,
    Reader,
    any_text,
    flag,
    integer,
    list_of,
    nullable,
    one_of,
    text,
    texts,
)
from gen_engine.engine.base.strict_json import DocumentError, show
from gen_engine.engine.sample.kinds import kind_of
from gen_engine.engine.sample.kinds.contract import Form, Kind

MAX_RANK = 8
MAX_VALUE_BYTES = 1 << 31
"""Limit of one decoded value of a field: a schema that exceeds it is refused before memory is allocated."""

MAX_TITLE, MAX_CATEGORY = 1_000, 500
"""Characters of a title, and of a category's name."""

MAX_CATEGORIES = 1_000_000
UNITS = ("s", "ms", "us", "ns")
MAX_SCALE = 18


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of every sample of a dataset.

    A field with a title is a column of a table: formats with named columns use the title as the column's name and
    store categories as their names, which may be any text; other categories are stored as ids.

    Raises:
        ValueError: the kind is unknown, or does not support the dtype, shape, categories or an attribute.
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

    title: str | None = None
    """The column's own name, any text; None for a field that is not a column of a table."""

    nullable: bool = False
    """Whether values may be missing: see :attr:`missing_value`."""

    unit: str | None = None
    """Of a ``datetime``: one of :data:`UNITS`, counted from 1970-01-01."""

    utc: bool = False
    """Of a ``datetime``: whether its time zone is UTC; else it has none."""

    scale: int | None = None
    """Of a ``decimal``: digits after the point, 0 to 18."""

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
        self._check_attributes()
        self.behaviour.check(self)
        if self.value_bytes > MAX_VALUE_BYTES:
            raise ValueError(
                f"field {self.name}: a value of {self.dtype} {list(self.shape)} has {self.value_bytes:,} bytes, and "
                f"at most {MAX_VALUE_BYTES:,} are supported"
            )

    def _check_attributes(self) -> None:
        kind = self.behaviour
        given = {"unit": self.unit is not None, "utc": self.utc, "scale": self.scale is not None}
        for attribute in (name for name, is_given in given.items() if is_given and name not in kind.attributes):
            raise ValueError(f"field {self.name}: kind {self.kind} has no {attribute}")
        if self.nullable and not kind.nullable_dtypes:
            raise ValueError(f"field {self.name}: values of kind {self.kind} cannot be missing")
        if self.title is None:
            return
        if not 1 <= len(self.title) <= MAX_TITLE or "\0" in self.title or not _has_utf8(self.title):
            raise ValueError(
                f"field {self.name}: title {show(self.title)}: it must be text of 1 to {MAX_TITLE:,} characters "
                "without NUL"
            )
        if self.categories is not None:
            _check_texts(self.name, self.categories)

    @cached_property
    def behaviour(self) -> Kind:
        """The kind's implementation."""
        return kind_of(self.kind)

    @property
    def form(self) -> Form:
        """How writers store the values."""
        return self.behaviour.form

    @property
    def is_column(self) -> bool:
        """Whether it is a column of a table: it has a title."""
        return self.title is not None

    @property
    def column(self) -> str:
        """The name of its column in formats whose columns have any names: the title, or the name."""
        return self.name if self.title is None else self.title

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """dtype of the stored values, little-endian; uint8, the bytes of UTF-8, for text."""
        return np.dtype("u1" if self.dtype == "string" else self.dtype).newbyteorder("<")

    @property
    def missing_value(self) -> float | int | None:
        """What an array holds for a missing value: NaN, -1 or the dtype's least value; None if none can be missing."""
        return self.behaviour.missing_value(self) if self.nullable else None

    def missing(self, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Return which values are missing, bool [B]; None if none is."""
        if not self.nullable:
            return None
        value = self.missing_value
        missing_B: NDArray[np.bool_] = np.isnan(values) if values.dtype.kind == "f" else values == value
        return missing_B if missing_B.any() else None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a field with no ragged axis."""
        assert None not in self.shape, self
        return tuple(size for size in self.shape if size is not None)

    @property
    def value_bytes(self) -> int:
        """Bytes of one sample's values, ragged axes counted as one."""
        return math.prod(size or 1 for size in self.shape) * self.numpy_dtype.itemsize

    def describe(self) -> str:
        """Return the type of a column in words: ``category of 17, int32, may be missing``."""
        return ", ".join([self.behaviour.describe(self), self.dtype, *(["may be missing"] if self.nullable else [])])

    def to_json(self) -> dict[str, Any]:
        """Return the field as JSON; what is optional is present only if it is set."""
        document: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "dtype": self.dtype,
            "shape": list(self.shape),
        }
        if self.categories is not None:
            document["categories"] = list(self.categories)
        optional = {"title": self.title, "unit": self.unit, "scale": self.scale}
        document |= {name: value for name, value in optional.items() if value is not None}
        return document | {name: True for name, value in (("nullable", self.nullable), ("utc", self.utc)) if value}

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
                **take_attributes(fields, text()),
            }
        try:
            return cls(**given)
        except ValueError as error:
            raise DocumentError(where, str(error)) from error


def take_attributes(fields: Fields, category: Reader[str]) -> Mapping[str, Any]:
    """Take the optional attributes of a field from its document; ``category`` reads a name of one without a title."""
    title = fields.take_optional("title", any_text(1, MAX_TITLE))
    names = list_of(category, 1) if title is None else texts(1, MAX_CATEGORIES, MAX_CATEGORY)
    return {
        "title": title,
        "categories": fields.take_optional("categories", names),
        "nullable": fields.take_optional("nullable", flag) or False,
        "unit": fields.take_optional("unit", one_of(*UNITS)),
        "utc": fields.take_optional("utc", flag) or False,
        "scale": fields.take_optional("scale", integer(0, MAX_SCALE)),
    }


def _check_texts(name: str, categories: tuple[str, ...]) -> None:
    """Raise ValueError unless the categories of a column can be stored and told apart; a million take 0.2 s."""
    if len(categories) > MAX_CATEGORIES:
        raise ValueError(f"field {name}: {len(categories):,} categories, at most {MAX_CATEGORIES:,} are supported")
    if len(set(categories)) < len(categories):
        seen: set[str] = set()
        twice = next(one for one in categories if one in seen or seen.add(one))  # type: ignore[func-returns-value]
        raise ValueError(f"field {name}: category {show(twice)} is there twice")
    if max(map(len, categories), default=0) > MAX_CATEGORY or not _has_utf8("".join(categories)):
        bad = next(one for one in categories if len(one) > MAX_CATEGORY or not _has_utf8(one))
        raise ValueError(
            f"field {name}: category {show(bad)}: it must be text of at most {MAX_CATEGORY} characters, without halves "
            "of surrogate pairs"
        )


def _has_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
