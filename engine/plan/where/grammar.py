"""Parse the text of ``--where``, without knowing the columns.

::

    WHERE = TERM,TERM,…                         all of them hold
    TERM  = COLUMN=SET | COLUMN!=SET | COLUMN is missing | COLUMN is not missing
    SET   = ITEM|ITEM|…                         one of them holds
    ITEM  = VALUE | VALUE..VALUE | VALUE.. | ..VALUE | missing | is missing

Both ends of a range belong to it. Names and values may be in double quotes, with double quotes doubled, and have to be
if they hold a comma, a bar or a double quote, or begin or end with a space; a name also if it holds an equals sign. In
quotes ``..`` and the words have no meaning of their own. ``is missing`` is never a name; ``missing`` may be one, and is
refused where both are possible.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gen_engine.engine.errors import RequestError

MISSING: Final = "missing"
IS_MISSING: Final = "is missing"
RANGE: Final = ".."

_QUOTED: Final = r'"(?:[^"]|"")*"'
_HEAD: Final = re.compile(
    rf"\s*(?P<column>{_QUOTED}|[^\",=|]*?)\s*(?P<operator>!=|=|(?<=[\s\"])is\s+(?:not\s+)?{MISSING}\s*(?=,|\Z))"
)
_ITEM: Final = re.compile(rf'(?:{_QUOTED}|[^",|])*')
_ENDS: Final = re.compile(rf'\s*(?P<low>{_QUOTED}|(?:[^".]|\.(?!\.))*)\s*\.\.(?P<high>\s*{_QUOTED}\s*|[^"]*)')
_PLAIN_VALUE: Final = re.compile(r'[^\s",|](?:[^",|]*[^\s",|])?')
_PLAIN_NAME: Final = re.compile(r'[^\s",|=!<>](?:[^",|=!<>]*[^\s",|=!<>])?')
_COMPARISON: Final = re.compile(r"(?P<column>[^<>]+?)\s*(?P<operator><=?|>=?)(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True)
class Text:
    """A value as it was written."""

    text: str
    quoted: bool = False


@dataclass(frozen=True)
class Span:
    """A range as it was written; ``None`` for an open end."""

    low: Text | None
    high: Text | None

    text: str
    """All of it: a category may have such a name."""


@dataclass(frozen=True)
class Absent:
    """The keyword ``missing``."""

    certain: bool
    """Whether it was ``is missing``, and so no name."""


Item = Text | Span | Absent


@dataclass(frozen=True)
class Term:
    """One condition, as it was written."""

    column: str
    items: tuple[Item, ...]
    negated: bool
    text: str


def parse_terms(text: str) -> tuple[Term, ...]:
    """Return the conditions of a ``--where`` value, one or more.

    Raises:
        RequestError: it is not of the form above.
    """
    terms, at = [], 0
    while True:
        term, at = _parse_term(text, at)
        terms.append(term)
        if at == len(text):
            return tuple(terms)
        at += 1  # the comma


def quote_name(name: str) -> str:
    """Return the name of a column as it is written in a condition, in quotes if it needs them."""
    return name if _PLAIN_NAME.fullmatch(name) else _quote(name)


def quote_value(value: str) -> str:
    """Return a value as it is written in a condition, in quotes if it needs them."""
    special = RANGE in value or value in (MISSING, IS_MISSING)
    return value if _PLAIN_VALUE.fullmatch(value) and not special else _quote(value)


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _unquoted(text: str) -> Text:
    if text.startswith('"'):
        return Text(text[1:-1].replace('""', '"'), quoted=True)
    return Text(text)


def _parse_term(text: str, at: int) -> tuple[Term, int]:
    """Return the condition that begins at ``at``, and the place of the comma after it or of the end."""
    head = _HEAD.match(text, at)
    if head is None or not head["column"] or head["column"].endswith(("<", ">")):
        raise _not_a_term(text, at)
    column, operator = _unquoted(head["column"]).text, head["operator"]
    if operator.startswith("is"):
        negated = "not" in operator.split()
        return Term(column, (Absent(certain=True),), negated, head[0].strip()), head.end()
    items, place = [], head.end()
    while True:
        match = _ITEM.match(text, place)
        assert match is not None, "it matches nothing at least"
        place = match.end()
        if text.startswith('"', place):
            raise RequestError(f"where {text!r}: the double quote at {text[place : place + 20]!r} is not closed")
        items.append(_parse_item(match[0].strip(), text))
        if place == len(text) or text[place] == ",":
            return Term(column, tuple(items), operator == "!=", text[at:place].strip()), place
        place += 1  # the bar


def _parse_item(item: str, text: str) -> Item:
    if re.fullmatch(_QUOTED, item):
        return _unquoted(item)
    if item in (MISSING, IS_MISSING):
        return Absent(certain=item == IS_MISSING)
    if not item:
        raise RequestError(
            f'where {text!r}: a value is left out; an empty text is written "", and a missing value COLUMN is missing'
        )
    ends = _ENDS.fullmatch(item)
    if ends is not None:
        low, high = (end.strip() for end in (ends["low"], ends["high"]))
        return Span(_unquoted(low) if low else None, _unquoted(high) if high else None, item)
    if '"' in item:
        raise RequestError(
            f"where {text!r}: a double quote within {item!r}; put all of the value in double quotes, and double those "
            "in it"
        )
    return Text(item)


def _not_a_term(text: str, at: int) -> RequestError:
    part = text[at:].partition(",")[0].strip()
    hint = ""
    if comparison := _COMPARISON.fullmatch(part):
        column, value = comparison["column"], comparison["value"].strip(" =") or "30"
        ends = f"{value}.." if comparison["operator"].startswith(">") else f"..{value}"
        hint = f"; a range is written {column}={ends}, both ends belong to it"
    elif at:
        hint = "; a value that holds a comma goes in double quotes, as in 'city=\"Oslo, N\"'"
    return RequestError(
        f"where {text!r}: {part!r} is no condition, such as age=30..40, sex=F, 'city!=Oslo|Rome' or 'income is "
        f"missing'{hint}"
    )
