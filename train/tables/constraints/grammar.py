"""Constraints as users write them, and as types.

::

    start <= end            columns in order, also <, >= and >, and more than two: low <= mid <= high
    0 <= rate <= 100        a column between constants: numbers, 2024-12-31, 2024-12-31T23:59:59
    a + b + c = total       a sum that is a column, or a number: a + b = 100
    "net (EUR)" <= `gross`  a name in quotes, where it has signs in it or looks like a constant
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timezone
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from gen_engine.train.errors import ConfigError

LONGEST = 10_000
"""Characters of a constraint."""

NANOSECONDS = 10**9
DAY = 86_400 * NANOSECONDS

_TOKENS = re.compile(r'"(?:[^"]|"")*"|`[^`]*`|<=|>=|==|<|>|=|\+|[^"`<>=+]+|.', re.DOTALL)
_QUOTES = '"`'
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})([T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?Z?)?", re.ASCII)
_COMPARISONS = ("<=", "<", ">=", ">", "=", "==")


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A number or a time in a constraint."""

    text: str
    """As written."""

    value: Fraction
    """A number; of a time, nanoseconds since 1970."""

    is_time: bool


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A column on one side of a constant."""

    text: str
    """The constraint, as written."""

    column: str
    constant: Constant
    upper: bool
    """Whether the constant is the greater one."""

    strict: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it is about."""
        return (self.column,)


@dataclass(frozen=True, kw_only=True)
class Order:
    """A column that is no greater than another, or less."""

    text: str
    lower: str
    upper: str
    strict: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it is about."""
        return (self.lower, self.upper)


@dataclass(frozen=True, kw_only=True)
class Total:
    """Columns whose sum is a column or a constant."""

    text: str
    parts: tuple[str, ...]
    total: str | Constant

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it is about."""
        return self.parts if isinstance(self.total, Constant) else (*self.parts, self.total)


Constraint: TypeAlias = Limit | Order | Total


def parse(text: str) -> tuple[Constraint, ...]:
    """Return what a text says: a constraint for each of its comparisons.

    Raises:
        ConfigError: it is no constraint.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise ConfigError(f"constraint {text[:60]!r}… has {len(text):,} characters: at most {LONGEST:,}")
    sides, signs = _split(text)
    if not signs:
        raise _wrong(text, "it compares nothing")
    ways = {sign[0] for sign in signs}
    if "=" in ways:
        return (_equation(text, sides, signs),)
    if len(ways) > 1:
        raise _wrong(text, "its comparisons point both ways")
    if any(len(side) > 1 for side in sides):
        raise _wrong(text, "a sum is compared by = alone")
    operands = [side[0] for side in sides]
    if ways == {">"}:
        operands, signs = operands[::-1], signs[::-1]
    return tuple(
        _comparison(text, low, high, strict="=" not in sign)
        for (low, high), sign in zip(pairwise(operands), signs, strict=True)
    )


def _split(text: str) -> tuple[list[list[str | Constant]], list[str]]:
    """Return the terms of each side, and the signs between the sides."""
    sides: list[list[list[str]]] = [[[]]]
    signs: list[str] = []
    for token in _TOKENS.findall(text):
        if token in _COMPARISONS:
            signs.append(token)
            sides.append([[]])
        elif token == "+" and any(part.strip() for part in sides[-1][-1]):
            sides[-1].append([])
        else:
            sides[-1][-1].append(token)
    return [[_operand(text, term) for term in side] for side in sides], signs


def _operand(text: str, tokens: list[str]) -> str | Constant:
    """Return a column's name, or a constant."""
    present = [token for token in tokens if token.strip()]
    if not present:
        raise _wrong(text, "a side or a term of it is empty")
    first = present[0].strip()
    if len(present) == 1 and len(first) > 1 and first[0] == first[-1] and first[0] in _QUOTES:
        return first[1:-1].replace(first[0] * 2, first[0])
    whole = "".join(tokens).strip()
    if any(token[0] in _QUOTES for token in present):
        raise _wrong(text, f"the quotes in {whole!r} do not enclose a whole name")
    return _constant(text, whole) or whole


def _constant(text: str, word: str) -> Constant | None:
    if _NUMBER.fullmatch(word):
        return Constant(text=word, value=Fraction(word), is_time=False)
    found = _TIME.fullmatch(word)
    if found is None:
        return None
    try:
        day = date.fromisoformat(found[1])
        clock = datetime.fromisoformat(f"{found[1]}T{found[3]}+00:00") if found[2] else None
    except ValueError as error:
        raise _wrong(text, f"{word!r} is no date or time: {error}") from error
    value = (day - date(1970, 1, 1)).days * DAY
    if clock is not None:
        seconds = clock - datetime(1970, 1, 1, tzinfo=timezone.utc)
        value = (seconds.days * 86_400 + seconds.seconds) * NANOSECONDS
        value += int((found[4] or ".0")[1:].ljust(9, "0"))
    return Constant(text=word, value=Fraction(value), is_time=True)


def _comparison(text: str, low: str | Constant, high: str | Constant, *, strict: bool) -> Constraint:
    if isinstance(low, Constant):
        if isinstance(high, Constant):
            raise _wrong(text, f"it compares the constants {low.text} and {high.text}")
        return Limit(text=text, column=high, constant=low, upper=False, strict=strict)
    if isinstance(high, Constant):
        return Limit(text=text, column=low, constant=high, upper=True, strict=strict)
    if low == high:
        raise _wrong(text, f"it compares {low!r} with itself")
    return Order(text=text, lower=low, upper=high, strict=strict)


def _equation(text: str, sides: list[list[str | Constant]], signs: list[str]) -> Total:
    if len(signs) > 1:
        raise _wrong(text, "an equation has one = and no other comparison")
    left, right = sides
    parts, total = (left, right) if len(right) == 1 else (right, left)
    if len(total) > 1:
        raise _wrong(text, "one side of an equation is a single column or a number")
    if len(parts) == 1 and isinstance(parts[0], Constant):
        parts, total = total, parts
    names = [part for part in parts if isinstance(part, str)]
    if len(names) < len(parts):
        raise _wrong(text, "a constant is a side of its own")
    every = names + [one for one in total if isinstance(one, str)]
    for name in every:
        if every.count(name) > 1:
            raise _wrong(text, f"{name!r} is in it twice")
    return Total(text=text, parts=tuple(names), total=total[0])


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"constraint {text!r}: {why}. Write it as 'low <= high', '0 <= rate <= 100' or 'a + b = total'; names with "
        "signs in them are quoted"
    )
