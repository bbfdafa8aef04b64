"""Parse documents into typed values: a dict is read once, field by field, and no code beyond its class indexes it.

::

    @classmethod
    def from_json(cls, value: Any, where: str) -> Compute:
        with Fields(value, where) as fields:
            return cls(batch=fields.take("batch", integer(1, MAX_BATCH)), graph=fields.take("graph", nullable(digest)))

A :data:`Reader` turns a JSON value into a typed one; ``where`` names the file and the field for messages. ``from_json``
is one itself, so records nest: ``fields.take("compute", Compute.from_json)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

from gen_engine.engine.base.strict_json import DocumentError, show

T = TypeVar("T")
Reader: TypeAlias = Callable[[Any, str], T]

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, and marks that change the direction of text."""


class Fields:
    """The fields of a JSON object, each to be taken once; fields left over at the end of the block are refused.

    Raises:
        DocumentError: the value is not an object, or a field is missing, unknown or refused by its reader.
    """

    def __init__(self, value: Any, where: str = "") -> None:
        self._left, self._where = dict(_mapping(value, where)), where
        self._prefix = f"{where}." if ": " in where else f"{where}: " if where else ""

    def __enter__(self) -> Fields:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._left:
            raise DocumentError(self._where, f"unknown field {show(min(self._left))}")

    def take(self, name: str, read: Reader[T]) -> T:
        """Return a required field."""
        value = self._left.pop(name, _ABSENT)
        if value is _ABSENT:
            raise DocumentError(self._where, f"field {show(name)} is missing")
        return read(value, self._prefix + name)

    def take_optional(self, name: str, read: Reader[T]) -> T | None:
        """Return an optional field, or None."""
        return self.take(name, read) if name in self._left else None


_ABSENT = object()


def _checked(check: Callable[[Any], bool], what: str) -> Reader[Any]:
    def read(value: Any, where: str) -> Any:
        if not check(value):
            raise DocumentError(where, f"{show(value)} is not {what}")
        return value

    return read


@lru_cache(maxsize=256)  # journals are read a hundred thousand lines at a time
def integer(low: int, high: int) -> Reader[int]:
    """Return a reader of integers from ``low`` to ``high``."""
    return _checked(lambda value: type(value) is int and low <= value <= high, f"an integer from {low:,} to {high:,}")


def number(low: float, high: float) -> Reader[float]:
    """Return a reader of finite numbers from ``low`` to ``high``."""
    return _checked(lambda value: type(value) in (int, float) and low <= value <= high, f"from {low:g} to {high:g}")


def one_of(*choices: str) -> Reader[str]:
    """Return a reader of one of these strings."""
    return _checked(lambda value: value in choices, f"one of {', '.join(choices)}")


@lru_cache(maxsize=256)
def text(longest: int = 500) -> Reader[str]:
    """Return a reader of printable text on one line, 1 to ``longest`` characters."""
    return _checked(
        lambda value: isinstance(value, str) and 0 < len(value) <= longest and _UNPRINTABLE.search(value) is None,
        f"printable text of 1 to {longest:,} characters",
    )


@lru_cache(maxsize=256)
def matching(pattern: str, longest: int = 500) -> Reader[str]:
    """Return a reader of text of at most ``longest`` characters, all of which match ``pattern``, an ASCII one."""
    form = re.compile(pattern, re.ASCII)
    return _checked(
        lambda value: isinstance(value, str) and len(value) <= longest and form.fullmatch(value) is not None,
        f"text of at most {longest:,} characters that matches {pattern}",
    )


digest: Reader[str] = matching("[0-9a-f]{64}", 64)
"""Reads 256 bits in hexadecimal."""

prose: Reader[str] = _checked(lambda value: isinstance(value, str), "text")
"""Reads text of any length and with line ends, for readers of Markdown."""


@lru_cache(maxsize=256)
def any_text(fewest: int, longest: int) -> Reader[str]:
    """Return a reader of text of ``fewest`` to ``longest`` characters, of any kind: it is escaped where shown."""
    return _checked(
        lambda value: isinstance(value, str) and fewest <= len(value) <= longest,
        f"text of {fewest:,} to {longest:,} characters",
    )


flag: Reader[bool] = _checked(lambda value: isinstance(value, bool), "true or false")

_mapping: Reader[Mapping[str, Any]] = _checked(lambda value: isinstance(value, dict), "a JSON object")


def nullable(read: Reader[T]) -> Reader[T | None]:
    """Return a reader of null, or of what ``read`` reads."""
    return lambda value, where: None if value is None else read(value, where)


def list_of(read: Reader[T], fewest: int = 0, most: int = 1_000_000) -> Reader[tuple[T, ...]]:
    """Return a reader of a list of ``fewest`` to ``most`` items."""
    check = _checked(
        lambda value: isinstance(value, list) and fewest <= len(value) <= most,
        f"a list of {fewest:,} to {most:,} items",
    )
    return lambda value, where: tuple(read(item, f"{where}[{at}]") for at, item in enumerate(check(value, where)))


def texts(fewest: int, most: int, longest: int) -> Reader[tuple[str, ...]]:
    """Return a reader of a list of ``fewest`` to ``most`` texts, as :func:`any_text` reads one; quick for a million."""

    def read(value: Any, where: str) -> tuple[str, ...]:
        are_texts = isinstance(value, list) and fewest <= len(value) <= most and set(map(type, value)) <= {str}
        if are_texts and max(map(len, value), default=0) <= longest:
            return tuple(value)
        return list_of(any_text(0, longest), fewest, most)(value, where)

    return read


def mapping_of(read: Reader[T]) -> Reader[Mapping[str, T]]:
    """Return a reader of an object whose keys are printable text, and whose values ``read`` reads."""
    name = text()
    return lambda value, where: {
        name(key, where): read(item, f"{where}[{show(key)}]") for key, item in _mapping(value, where).items()
    }


def anything(value: Any, where: str) -> Any:
    """Read any JSON value, for values that are passed on or shown unchanged."""
    return value
