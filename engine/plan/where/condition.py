"""One column's part of ``--where``: the set of values that its samples may have.

However it was written, it becomes the same set: the ranges of stored values, and whether a value may be missing. A
negation is the complement among values that are there, so a missing value satisfies no comparison, as in SQL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.parse import Fields, anything, flag, list_of, text
from gen_engine.engine.base.strict_json import DocumentError, show
from gen_engine.engine.base.text import shown
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.where.grammar import (
    IS_MISSING,
    MISSING,
    Absent,
    Item,
    Span,
    Term,
    Text,
    quote_name,
    quote_value,
)
from gen_engine.engine.plan.where.ranges import Number, Ranges, contains
from gen_engine.engine.plan.where.values import (
    bounds_of,
    domain_of,
    is_named,
    is_whole,
    listed,
    names_of,
    text_of,
)
from gen_engine.engine.sample.field import MAX_CATEGORIES, Field


@dataclass(frozen=True)
class Condition:
    """The values that a field may have in a dataset."""

    field: Field
    ranges: Ranges
    missing: bool
    """Whether a value may be missing."""

    def holds(self, values_B: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which stored values satisfy it: bool [B]."""
        found_B = contains(self.ranges, values_B.view(np.int8) if values_B.dtype == np.bool_ else values_B)
        if self.missing and (missing_B := self.field.missing(values_B)) is not None:
            found_B = found_B | missing_B
        return found_B

    def both(self, other: Condition) -> Condition:
        """Return what satisfies this condition and another of the same field."""
        met = domain_of(self.field).meet(self.ranges, other.ranges)
        return Condition(self.field, met, self.missing and other.missing)

    @property
    def satisfiable(self) -> bool:
        """Whether any value satisfies it."""
        return bool(self.ranges) or self.missing

    @property
    def places(self) -> list[int]:
        """The ids of the values that satisfy it, of a field whose values have names."""
        return [place for low, high in self.ranges for place in range(int(low), int(high) + 1)]

    def __str__(self) -> str:
        """Return it as ``--where`` takes it, in the shorter of its two forms."""
        name, domain = quote_name(self.field.column), domain_of(self.field)
        others = domain.complement(self.ranges)
        if not self.ranges:
            return f"{name} is missing"
        if not others and not self.missing and self.field.nullable:
            return f"{name} is not missing"
        if not self.missing and others and self._size(others) < self._size(self.ranges):
            return f"{name}!={self._items(others)}"
        word = IS_MISSING if MISSING in (self.field.categories or ()) else MISSING
        return f"{name}={self._items(self.ranges)}{f'|{word}' if self.missing else ''}"

    def _size(self, ranges: Ranges) -> int:
        """Return how many items a text of these ranges has."""
        if is_named(self.field):
            return sum(int(high) - int(low) + 1 for low, high in ranges)
        return len(ranges)

    def _items(self, ranges: Ranges) -> str:
        if is_named(self.field):
            names = names_of(self.field)
            return "|".join(quote_value(names[at]) for low, high in ranges for at in range(int(low), int(high) + 1))
        return "|".join(self._item(*one) for one in ranges)

    def _item(self, low: Number, high: Number) -> str:
        domain, first, last = domain_of(self.field), text_of(self.field, low), text_of(self.field, high)
        if low == high:
            return first
        if high == domain.high:
            return f"{first}.."
        return f"..{last}" if low == domain.low else f"{first}..{last}"

    def to_json(self) -> dict[str, Any]:
        """Return its fields, with the field's name for the field; ranges as pairs of stored values."""
        return {"field": self.field.name, "ranges": [list(one) for one in self.ranges], "missing": self.missing}

    @classmethod
    def from_json(cls, value: Any, where: str, fields: Sequence[Field]) -> Condition:
        """Read what :meth:`to_json` returned, for one of these fields.

        Raises:
            DocumentError: the document is malformed, or such a field cannot have these values.
        """
        with Fields(value, where) as of:
            name, missing = of.take("field", text(63)), of.take("missing", flag)
            pairs = of.take("ranges", list_of(list_of(anything, 2, 2), 0, MAX_CATEGORIES))
        field = next((one for one in fields if one.name == name), None)
        if field is None:
            raise DocumentError(where, f"field: {show(name)} is none that a condition can be about")
        domain, kind = domain_of(field), float if _is_float(field) else int
        if any(type(end) is not kind for pair in pairs for end in pair):
            raise DocumentError(where, f"ranges: an end is not of type {kind.__name__}")
        ranges: Ranges = tuple((pair[0], pair[1]) for pair in pairs)
        if kind is float and any(float(field.numpy_dtype.type(end)) != end for pair in ranges for end in pair):
            raise DocumentError(where, f"ranges: an end is no {field.dtype}")
        if domain.merge(ranges) != ranges or not (ranges or missing) or (missing and not field.nullable):
            raise DocumentError(where, f"ranges: they are not ranges of values of field {name}, ascending and apart")
        return cls(field, ranges, missing)


def bind(term: Term, field: Field) -> Condition:
    """Return what a condition, as it was written, means for a field.

    Raises:
        RequestError: the field has no such value, a range is empty, or nothing satisfies it.
    """
    domain, missing = domain_of(field), False
    ranges: list[tuple[Number, Number]] = []
    for item in term.items:
        if isinstance(item, Absent) and not _is_name(item, field):
            missing = True
        else:
            ranges += _ranges_of(item, term, field)
    if missing and not field.nullable:
        raise RequestError(f"where {term.text!r}: no value of column {shown(field.column)!r} is missing; leave it out")
    merged = domain.merge(ranges)
    if not term.negated:
        return Condition(field, merged, missing)
    left = Condition(field, domain.complement(merged), False)
    if not left.satisfiable:
        raise RequestError(f"where {term.text!r}: it excludes all values of column {shown(field.column)!r}")
    return left


def _is_name(item: Absent, field: Field) -> bool:
    """Return whether the word ``missing`` is a category; refuse it where it may be either."""
    named = not item.certain and field.categories is not None and MISSING in field.categories
    if named and field.nullable:
        name = shown(field.column)
        raise RequestError(
            f"where: 'missing' is a category of column {name!r}, and its values may be missing; write '\"missing\"' in "
            f"double quotes for the category, or '{name} is missing'"
        )
    return named


def _ranges_of(item: Item, term: Term, field: Field) -> Ranges:
    """Return the values of a field that an item names, one or more."""
    try:
        if isinstance(item, Span) and is_named(field):
            return _named_range(item, field)
        low, high = _ends_of(item, field)
    except RequestError as error:
        raise RequestError(f"where {term.text!r}: {error}") from None
    domain = domain_of(field)
    if max(low, domain.low) > min(high, domain.high):
        least, most = text_of(field, domain.low), text_of(field, domain.high)
        raise RequestError(
            f"where {term.text!r}: column {shown(field.column)!r} is {field.describe()}, and holds {least} to {most}"
        )
    return ((low, high),)


def _ends_of(item: Item, field: Field) -> tuple[Number, Number]:
    if isinstance(item, Absent):
        return bounds_of(field, MISSING)
    name = shown(field.column)
    if isinstance(item, Text):
        low, high = bounds_of(field, item.text)
        if low > high:
            raise RequestError(f"no value of column {name!r}, which is {field.describe()}, is {item.text}")
        return low, high
    if item.low is None and item.high is None:
        raise RequestError(f"'..' has no end; for all values write '{name} is not missing'")
    domain = domain_of(field)
    low = domain.low if item.low is None else bounds_of(field, item.low.text)[0]
    high = domain.high if item.high is None else bounds_of(field, item.high.text)[1]
    if low > high and item.low is not None and item.high is not None:
        raise RequestError(f"no value of column {name!r} is in the range {item.text}; give its lower end first")
    return low, high


def _named_range(item: Span, field: Field) -> Ranges:
    """Return the category with such a name; else those in the range, if all names are whole numbers."""
    names = names_of(field)
    if item.text in names:
        place = names.index(item.text)
        return ((place, place),)
    name, low, high = shown(field.column), *(None if end is None else end.text for end in (item.low, item.high))
    if not all(map(is_whole, names)):
        listing = "|".join(map(quote_value, names[:2]))
        raise RequestError(
            f"{item.text!r} is a range, and the values of column {name!r} have no order; list them, as in "
            f"{quote_name(field.column)}={listing}"
        )
    if not all(end is None or is_whole(end) for end in (low, high)) or low is high is None:
        raise RequestError(f"{item.text!r} is not a range of whole numbers, and column {name!r} holds whole numbers")
    least, most = -math.inf if low is None else int(low), math.inf if high is None else int(high)
    places = [place for place, one in enumerate(names) if least <= int(one) <= most]
    if not places:
        raise RequestError(f"no value of column {name!r} is in the range {item.text}: they are {listed(names)}")
    return tuple((place, place) for place in places)


def _is_float(field: Field) -> bool:
    return not is_named(field) and field.numpy_dtype.kind == "f"
