"""The values of a column as fields of CSV, both ways.

- A number is in decimal digits. A floating-point number is the shortest that gives the same value back, as Python
  writes it: ``0.1``, ``1e-07``, ``2.0``.
- A boolean is ``true`` or ``false``, a category its name.
- A date is ``2026-11-27``, a time ``2026-11-27T05:52:32.123Z`` with all digits of its unit, and ``Z`` if it is in UTC.
- A decimal has all digits after its point: ``12.50``.

Shape suffixes: B samples, K categories.
"""

from __future__ import annotations

import datetime
import math
import re
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.native.contract import RecordColumn
from gen_engine.engine.sample.field import Field
from gen_engine.engine.sample.kinds.calendar import TICKS
from gen_engine.engine.sample.schema import Column, Ragged
from gen_engine.engine.writers.shard import ByIdentity

_SPECIAL: Final = re.compile(r'[",\r\n]|^\s|\s$|^$')
_EPOCH: Final = datetime.date(1970, 1, 1).toordinal()


def quoted(text: str) -> str:
    """Return text as a field: in quotes where it needs them."""
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")
"""What a text that a spreadsheet runs begins with, in either width (OWASP, "CSV Injection"); and the apostrophe, so
that one that was put before a text is told from one of its own."""


def escaped(text: str) -> str:
    """Return text that no spreadsheet runs: with an apostrophe before it where one might."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def unescaped(text: str) -> str:
    """Return what :func:`escaped` was given.

    Raises:
        ValueError: it was not made by it.
    """
    if not text.startswith(_FORMULA):
        return text
    if not text.startswith("'") or not text[1:].startswith(_FORMULA):
        raise ValueError(f"{text!r:.80} is not escaped")
    return text[1:]


class Cells(ABC):
    """A column as fields of CSV.

    Args:
        field: what it holds.
        escape: put an apostrophe before texts that a spreadsheet would run.
    """

    def __init__(self, field: Field, *, escape: bool = False) -> None:
        self.field, self.escape = field, escape

    @abstractmethod
    def column(self, values: Any) -> RecordColumn:
        """Return the fields of consecutive samples."""

    def parse(self, text: str | None) -> Any:
        """Return the value of a field; None is an empty one without quotes.

        Raises:
            ValueError: it is none of the column's.
        """
        if text is None:
            if not self.field.nullable:
                raise ValueError(f"column {self.field.column!r} has an empty field")
            return self.field.missing_value
        return self._parse(text)

    @abstractmethod
    def _parse(self, text: str) -> Any:
        """Return the value of a text."""

    def _ragged(self, texts: list[str], missing_B: NDArray[np.bool_] | None) -> RecordColumn:
        if missing_B is not None:
            for place in np.flatnonzero(missing_B).tolist():
                texts[place] = ""
        ragged = Ragged.of_text(texts)
        return ("ragged", ragged.values, ragged.offsets)


@lru_cache(maxsize=1 << 14)
def _fields_of(names: ByIdentity[tuple[str, ...]]) -> Ragged:
    """Return names as fields: made once per process, not once per shard."""
    return Ragged.of_text([quoted(name) for name in names.value])


@lru_cache(maxsize=1 << 14)
def _escaped_fields_of(names: ByIdentity[tuple[str, ...]]) -> Ragged:
    return Ragged.of_text([quoted(escaped(name)) for name in names.value])


_BOOLEANS: Final = ("false", "true")


class Named(Cells):
    """Categories and booleans: few texts, which are quoted once."""

    def __init__(self, field: Field, names: tuple[str, ...], *, escape: bool = False) -> None:
        super().__init__(field, escape=escape)
        self._names = (_escaped_fields_of if escape else _fields_of)(ByIdentity(names))
        self._texts = tuple(map(escaped, names)) if escape else names
        self._ids: dict[str, int] | None = None

    def column(self, values: NDArray[Any]) -> RecordColumn:
        """Return the names, and ids, negative ones of missing values."""
        return ("named", self._names.values, self._names.offsets, np.ascontiguousarray(values, np.int64))

    def _parse(self, text: str) -> Any:
        if self._ids is None:
            self._ids = {name: place for place, name in enumerate(self._texts)}
        if text not in self._ids:
            raise ValueError(f"column {self.field.column!r} has a category that the schema lacks: {text!r:.80}")
        value = self._ids[text]
        return bool(value) if self.field.dtype == "bool" else value


class Whole(Cells):
    """Integers."""

    def column(self, values: NDArray[Any]) -> RecordColumn:
        """Return numbers where 64 bits hold them and a missing one, and texts where they do not."""
        least = np.iinfo(np.int64).min
        missing_B = self.field.missing(values)
        if values.dtype == np.uint64 or (missing_B is None and values.dtype == np.int64 and (values == least).any()):
            return self._ragged(list(map(str, values.tolist())), missing_B)
        numbers = np.ascontiguousarray(values, np.int64)
        return ("signed", numbers if missing_B is None else np.where(missing_B, least, numbers))

    def _parse(self, text: str) -> int:
        value, bounds = int(text), np.iinfo(self.field.dtype)
        if not bounds.min <= value <= bounds.max:
            raise ValueError(f"column {self.field.column!r}: {value} is no {self.field.dtype}")
        return value


class Floating(Cells):
    """Floating-point numbers."""

    def column(self, values: NDArray[Any]) -> RecordColumn:
        """Return the shortest texts that give the numbers back."""
        wide: list[float] = values.tolist()
        if values.dtype == np.float32:  # as text and back: the float64 that has the digits of the float32 alone
            wide = list(map(float, map(str, values)))
        return self._ragged(list(map(repr, wide)), self.field.missing(values))

    def _parse(self, text: str) -> float:
        with np.errstate(over="ignore"):  # to infinity, which is refused
            value = np.dtype(self.field.dtype).type(float(text)).item()
        if not math.isfinite(value):
            raise ValueError(f"column {self.field.column!r} has {text!r:.80}")
        return float(value)


class Day(Cells):
    """Dates."""

    def column(self, values: NDArray[Any]) -> RecordColumn:
        """Return years, months and days."""
        return self._ragged(np.datetime_as_string(values.astype("M8[D]")).tolist(), self.field.missing(values))

    def _parse(self, text: str) -> int:
        return datetime.date.fromisoformat(text).toordinal() - _EPOCH


class Moment(Cells):
    """Dates with times."""

    def __init__(self, field: Field, *, escape: bool = False) -> None:
        super().__init__(field, escape=escape)
        self._zone = "Z" if field.utc else ""
        digits = len(str(TICKS[field.unit or "s"])) - 1
        fraction = rf"\.\d{{{digits}}}" if digits else ""
        self._form = re.compile(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d{fraction}{self._zone}", re.ASCII)

    def column(self, values: NDArray[Any]) -> RecordColumn:
        """Return dates and times, to the unit's last digit."""
        zone: Any = "UTC" if self.field.utc else "naive"
        texts = np.datetime_as_string(values.astype(f"M8[{self.field.unit}]"), timezone=zone).tolist()
        return self._ragged(texts, self.field.missing(values))

    def _parse(self, text: str) -> int:
        if not self._form.fullmatch(text):
            raise ValueError(f"column {self.field.column!r} has {text!r:.80}, which is no time in {self.field.unit}")
        unit: Any = self.field.unit
        return int(np.datetime64(text.removesuffix("Z"), unit).astype(np.int64))


class Fixed(Cells):
    """Decimal numbers."""

    def __init__(self, field: Field, *, escape: bool = False) -> None:
        super().__init__(field, escape=escape)
        self._scale = field.scale or 0

    def column(self, values: NDArray[Any]) -> RecordColumn:
        """Return all digits after the point."""
        missing_B = self.field.missing(values)
        if missing_B is not None:
            values = np.where(missing_B, 0, values)
        if not self._scale:
            return self._ragged(list(map(str, values.tolist())), missing_B)
        whole_B, rest_B = np.divmod(np.abs(values), 10**self._scale)
        signs = ["-" if negative else "" for negative in (values < 0).tolist()]
        pairs = zip(signs, whole_B.tolist(), rest_B.tolist(), strict=True)
        return self._ragged([f"{sign}{whole}.{rest:0{self._scale}d}" for sign, whole, rest in pairs], missing_B)

    def _parse(self, text: str) -> int:
        form = rf"-?\d{{1,18}}\.\d{{{self._scale}}}" if self._scale else r"-?\d{1,18}"
        if not re.fullmatch(form, text, re.ASCII):
            raise ValueError(f"column {self.field.column!r} has {text!r:.80}, which has not {self._scale} decimals")
        value = int(text.replace(".", ""))
        if abs(value) >= 10**18:
            raise ValueError(f"column {self.field.column!r} has {text!r:.80}, which has too many digits")
        return value


class Text(Cells):
    """Text."""

    def column(self, values: Column) -> RecordColumn:
        """Return the texts, quoted where they need it."""
        assert isinstance(values, Ragged), self.field
        texts = [piece.decode() for piece in values.pieces()]
        return self._ragged([quoted(escaped(text) if self.escape else text) for text in texts], None)

    def _parse(self, text: str) -> str:
        return unescaped(text) if self.escape else text


def cells_of(field: Field, *, escape: bool = False) -> Cells:
    """Return how a field's values are fields of CSV."""
    if field.form == "text":
        return Text(field, escape=escape)
    if field.categories is not None:
        return Named(field, field.categories, escape=escape)
    kinds: dict[str, type[Cells]] = {"date": Day, "datetime": Moment, "decimal": Fixed}
    if field.behaviour.logical in kinds:
        return kinds[field.behaviour.logical](field)
    if field.behaviour.logical == "boolean":
        return Named(field, _BOOLEANS)
    return Floating(field) if field.numpy_dtype.kind == "f" else Whole(field)
