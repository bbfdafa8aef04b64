"""The values of a field as texts of a condition, both ways.

A text stands for the stored values from the first that is not below it to the last that is not above it: for one value,
for none (``1.005`` of a decimal with two digits), or for many (a date of a datetime stands for the whole day).
"""

from __future__ import annotations

import datetime
import decimal
import difflib
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np

from gen_engine.engine.base.text import shown
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.where.ranges import Domain, Number, floats, integers
from gen_engine.engine.sample.field import Field
from gen_engine.engine.sample.kinds.calendar import DAY_S, FIRST_DAY, LAST_DAY, TICKS
from gen_engine.engine.sample.kinds.decimal import DIGITS

BOOLEANS: Final = ("false", "true")
_NAMED: Final = 8
"""Categories that a message names."""

_EPOCH: Final = datetime.date(1970, 1, 1).toordinal()
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME: Final = re.compile(
    rf"(?P<date>{_DATE.pattern})[T ](?P<time>[0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}})?)(?:\.(?P<fraction>[0-9]{{1,18}}))?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?",
    re.ASCII,
)

Bounds = tuple[Number, Number]
"""First and last stored value that a text stands for; the first is above the last if there is none."""


def is_named(field: Field) -> bool:
    """Return whether the values have names and not numbers: categories, classes and booleans."""
    return field.categories is not None or field.behaviour.logical == "boolean"


def names_of(field: Field) -> Sequence[str]:
    """Return the names of the values of such a field in order of their ids."""
    return BOOLEANS if field.categories is None else field.categories


def domain_of(field: Field) -> Domain:
    """Return the values that a field can have, missing ones aside."""
    if is_named(field):
        return integers(0, len(names_of(field)) - 1)
    if field.numpy_dtype.kind == "f":
        return floats(field.dtype)
    bounds = np.iinfo(field.dtype)
    low, high = int(bounds.min) + (field.is_column and bounds.min < 0), int(bounds.max)
    if field.behaviour.logical == "decimal":
        return integers(1 - 10**DIGITS, 10**DIGITS - 1)
    if field.behaviour.logical == "date":
        return integers(FIRST_DAY, LAST_DAY)
    if field.behaviour.logical == "datetime":
        ticks = TICKS[field.unit or "s"] * DAY_S
        return integers(max(low, FIRST_DAY * ticks), min(high, (LAST_DAY + 1) * ticks - 1))
    return integers(low, high)


def bounds_of(field: Field, text: str) -> Bounds:
    """Return the stored values that a text stands for.

    Raises:
        RequestError: it is no such value; the message has the form, or the nearest names.
    """
    if is_named(field):
        place = _place_of(field, text)
        return place, place
    read: Callable[[Field, str], Bounds | None] = _READERS.get(field.behaviour.logical, _whole)
    if field.numpy_dtype.kind == "f":
        read = _floating
    bounds = read(field, text)
    if bounds is None:
        raise RequestError(f"column {shown(field.column)!r} is {field.describe()}, and {text!r:.80} is {_form(field)}")
    return bounds


def text_of(field: Field, value: Number) -> str:
    """Return the text that stands for exactly this stored value."""
    if is_named(field):
        return names_of(field)[int(value)]
    if field.numpy_dtype.kind == "f":
        return str(field.numpy_dtype.type(value))
    whole = int(value)
    if field.behaviour.logical == "date":
        return datetime.date.fromordinal(whole + _EPOCH).isoformat()
    if field.behaviour.logical == "datetime":
        return _moment_text(field, whole)
    if field.behaviour.logical == "decimal" and field.scale:
        digits = f"{abs(whole):0{field.scale + 1}d}"
        return f"{'-' if whole < 0 else ''}{digits[: -field.scale]}.{digits[-field.scale :]}"
    return str(whole)


def is_whole(text: str) -> bool:
    """Return whether a text is a whole number."""
    return _WHOLE.fullmatch(text) is not None


def nearest(text: str, names: Sequence[str]) -> str:
    """Return ``did you mean 'a' or 'b'? `` for a message, or nothing."""
    by_name = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(text.casefold(), by_name, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(repr(by_name[one]) for one in near)}? " if near else ""


def listed(names: Sequence[str]) -> str:
    """Return the first names for a message, and how many there are."""
    first = ", ".join(map(repr, names[:_NAMED]))
    return first if len(names) <= _NAMED else f"{first}, … ({len(names):,} in all)"


def find(text: str, names: Sequence[str]) -> int | None:
    """Return the place of a name, with other case or outer spaces if only one is alike; None if none or several are."""
    if text in names:
        return names.index(text)
    wanted = text.strip().casefold()
    alike = [place for place, name in enumerate(names) if name.strip().casefold() == wanted]
    return alike[0] if len(alike) == 1 else None


def _place_of(field: Field, text: str) -> int:
    names = names_of(field)
    place = find(text, names)
    if place is None:
        what = "value" if field.categories is None else "category"
        raise RequestError(
            f"column {shown(field.column)!r} has no {what} {text!r:.80}: {nearest(text, names)}they are {listed(names)}"
        )
    return place


def _whole(field: Field, text: str) -> Bounds | None:
    return (int(text), int(text)) if is_whole(text) else None


def _floating(field: Field, text: str) -> Bounds | None:
    if not _DECIMAL.fullmatch(text) and not re.fullmatch(r"[+-]?[0-9.]{1,400}(?:[eE][+-]?[0-9]{1,4})?", text, re.ASCII):
        return None
    try:
        with np.errstate(over="ignore"):  # to infinity, which is refused
            value = float(field.numpy_dtype.type(text))
    except ValueError:
        return None
    return (value + 0.0, value + 0.0) if math.isfinite(value) else None


def _decimal(field: Field, text: str) -> Bounds | None:
    if not _DECIMAL.fullmatch(text):
        return None
    return _around(Fraction(decimal.Decimal(text)) * 10 ** (field.scale or 0))


def _date(field: Field, text: str) -> Bounds | None:
    day = _day(text)
    return None if day is None else (day, day)


def _datetime(field: Field, text: str) -> Bounds | None:
    ticks = TICKS[field.unit or "s"]
    if (day := _day(text)) is not None:
        return day * DAY_S * ticks, (day + 1) * DAY_S * ticks - 1
    match = _TIME.fullmatch(text)
    if match is None or (match["zone"] and not field.utc):
        return None
    day = _day(match["date"])
    try:
        time = datetime.time.fromisoformat(match["time"])
        zone = (
            datetime.time.fromisoformat(f"00:00{match['zone']}").utcoffset()
            if match["zone"] not in (None, "Z")
            else None
        )
    except ValueError:
        return None
    if day is None:
        return None
    seconds = day * DAY_S + time.hour * 3600 + time.minute * 60 + time.second
    seconds -= 0 if zone is None else round(zone.total_seconds())
    fraction = match["fraction"] or "0"
    return _around(seconds * ticks + Fraction(int(fraction) * ticks, 10 ** len(fraction)))


_READERS: Final[dict[str, Callable[[Field, str], Bounds | None]]] = {
    "decimal": _decimal,
    "date": _date,
    "datetime": _datetime,
}


def _around(value: Fraction) -> Bounds:
    """Return the least integer that is not below, and the greatest that is not above."""
    return math.ceil(value), math.floor(value)


def _day(text: str) -> int | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        return datetime.date.fromisoformat(text).toordinal() - _EPOCH
    except ValueError:
        return None


def _moment_text(field: Field, value: int) -> str:
    seconds, rest = divmod(value, TICKS[field.unit or "s"])
    day, second = divmod(seconds, DAY_S)
    digits = len(str(TICKS[field.unit or "s"])) - 1
    fraction = f".{rest:0{digits}d}" if rest else ""
    date = datetime.date.fromordinal(day + _EPOCH).isoformat()
    clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{date}T{clock}{fraction}{'Z' if field.utc else ''}"


def _form(field: Field) -> str:
    """Return the end of a message: what a text is not."""
    forms: dict[str, Any] = {
        "decimal": "no decimal number, such as 12.50",
        "date": "no date, such as 2026-11-27",
        "datetime": "no date or time, such as 2026-11-27 or 2026-11-27T05:52:32"
        + ("Z" if field.utc else " without a zone"),
    }
    if field.numpy_dtype.kind == "f":
        return f"no finite number of {field.dtype}"
    return str(forms.get(field.behaviour.logical, "no whole number"))
