"""Strict JSON: whatever parsers interpret differently is refused."""

from __future__ import annotations

import codecs
import json
import math
from itertools import pairwise
from typing import Any

MAX_DEPTH = 32
"""Maximum levels of nesting; no document of this package has ten."""

_MAX_SHOWN = 80


class DocumentError(ValueError):
    """A document is malformed. The message names the file, the field and the value."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}" if where else problem)


def parse_json(data: bytes, where: str = "") -> Any:
    """Return the value of a JSON document.

    Args:
        data: the document.
        where: its name in messages.

    Raises:
        DocumentError: it is not UTF-8, begins with a byte order mark, is not JSON, has a key twice in one object, holds
            NaN, an infinity, an integer beyond 64 bits or half a surrogate pair, or is nested too deeply.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise DocumentError(where, "it is not valid JSON (it begins with a byte order mark)")
    try:
        value = _DECODER.decode(data.decode())  # bytes might be detected as UTF-16
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            _check_depth(value)
    except RecursionError:
        raise DocumentError(where, f"it is nested more than {MAX_DEPTH} levels deep") from None
    except UnicodeError:
        raise DocumentError(where, "it is not UTF-8 text") from None
    except ValueError as error:
        raise DocumentError(where, f"it is not valid JSON ({error})") from None
    return value


def show(value: Any) -> str:
    """Return a JSON value for a message: on one line, in ASCII, cut off when it is long."""
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(name for name, after in pairwise(names) if name == after)
        raise ValueError(f"the key {show(twice)} is there twice")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the integer {text[:24]} is beyond 64 bits")
    return int(text)


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:24]} is too large")
    return number


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_refuse_constant
)
"""Created once: journals and lists of shards have hundreds of thousands of documents of a few hundred bytes."""


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for inner in level if isinstance(inner, dict | list)]
        if not level:
            return
        level = [child for inner in level for child in (inner.values() if isinstance(inner, dict) else inner)]
    raise RecursionError
