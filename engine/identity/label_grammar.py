"""Parse ``--labels``, in a grammar that class names cannot make ambiguous.

::

    LABELS  = balanced | file:PATH | CLASS | CLASS=WEIGHT,CLASS=WEIGHT,…
    CLASS   = NAME | "NAME" | id:NUMBER

A name may be written in another case if it is unambiguous. In double quotes it may contain anything, with double quotes
doubled; unquoted, it may contain a comma only if it is all of LABELS. A number is a class id, unless the bundle has
classes whose names are numbers: then it is a name, and ids are written ``id:NUMBER``. Ambiguous text is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from gen_engine.engine.errors import RequestError

BALANCED = "balanced"
FILE = "file:"
ID = "id:"

_QUOTED = r'\s*"(?P<quoted>(?:[^"]|"")*)"\s*'
_BARE = r'(?P<bare>(?!\s*")[^,]*)'
_PART = re.compile(rf"(?:{_QUOTED}(?:=(?P<weight>[^,]*))?|{_BARE})(?:,|$)")


def parse_class(text: str, names: Sequence[str]) -> int:
    """Return the id of the class that ``text`` names: ``NAME``, ``"NAME"`` or ``id:NUMBER``.

    Raises:
        RequestError: no class or several have that name; the message has the nearest ones.
    """
    quoted = re.fullmatch(_QUOTED, text)
    if quoted is not None:
        return _by_name(quoted["quoted"].replace('""', '"'), names)
    if text.startswith(ID) and text not in names:
        return _by_id(text.removeprefix(ID), names, text)
    if _is_number(text) and not any(map(_is_number, names)):
        return _by_id(text, names, text)
    return _by_name(text, names)


def parse_weights(text: str, names: Sequence[str]) -> tuple[float, ...]:
    """Return a probability for each class from ``CLASS=WEIGHT,…``; classes that are not named have 0.

    Raises:
        RequestError: it is something else, a class is unknown, or weights do not add up to a positive number.
    """
    weights: dict[int, float] = {}
    for part, value in _parts(text):
        label = parse_class(part, names)
        if label in weights:
            raise RequestError(f"labels {text!r}: class {part!r} is given twice")
        weights[label] = _parse_weight(value, text)
    return _normalise(weights, len(names), text)


def has_weights(text: str, names: Sequence[str]) -> bool:
    """Return whether ``text`` is a list of weights and not one class.

    Raises:
        RequestError: it is the name of a class and also has another meaning.
    """
    special = text == BALANCED or text.startswith((FILE, ID))
    listed = not special and re.fullmatch(_QUOTED, text) is None and "=" in text
    if text in names and (special or (listed and _reads_as_weights(text, names))):
        raise RequestError(
            f"labels {text!r}: it is the name of a class and also a keyword; for the class write "
            f"'{quote(text)}' or {ID}{list(names).index(text)}"
            + ("; for the keyword leave --labels out" if text == BALANCED else "")
        )
    return listed and text not in names


def quote(name: str) -> str:
    """Return a name in double quotes, as written in ``--labels``."""
    return '"' + name.replace('"', '""') + '"'


def describe_classes(names: Sequence[str], most: int = 20) -> str:
    """Return ``0 = T-shirt, 1 = Trouser, …`` for a message."""
    shown = ", ".join(f"{i} = {name}" for i, name in enumerate(names[:most]))
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")


def _parts(text: str) -> list[tuple[str, str]]:
    """Split ``CLASS=WEIGHT,…`` into classes, with their quotes, and weights."""
    parts, at = [], 0
    while at <= len(text):
        match = _PART.match(text, at)
        if match is None:
            raise RequestError(f"labels {text!r}: a quote at {text[at:]!r} is not closed, or not followed by =WEIGHT")
        if match["bare"] is None:
            name, weight = f'"{match["quoted"]}"', match["weight"]
        else:
            name, weight = _split_bare(match["bare"])
        if weight is None:
            raise RequestError(
                f"labels {text!r}: {match[0].strip(',')!r} is not CLASS=WEIGHT, as in 'A=0.9,B=0.1'; a class name with "
                "a comma goes in double quotes: '\"A, b\"=0.9,C=0.1'"
            )
        parts.append((name, weight))
        at = match.end() if match[0].endswith(",") else len(text) + 1
    return parts


def _split_bare(part: str) -> tuple[str, str | None]:
    """Split at the last equals sign: a weight has none, a name may."""
    name, equals, weight = part.rpartition("=")
    return name.strip(), weight if equals else None


def _reads_as_weights(text: str, names: Sequence[str]) -> bool:
    try:
        parse_weights(text, names)
    except RequestError:
        return False
    return True


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _by_id(number: str, names: Sequence[str], text: str) -> int:
    if not _is_number(number) or len(number) > 12 or int(number) >= len(names):
        raise RequestError(f"unknown class {text!r}: no class has that id; the classes are {describe_classes(names)}")
    return int(number)


def _by_name(name: str, names: Sequence[str]) -> int:
    if name in names:
        return list(names).index(name)
    by_name = {known.casefold(): i for i, known in enumerate(names)}
    alike = [known for known in names if known.casefold() == name.casefold()]
    if len(alike) > 1:
        raise RequestError(f"class {name!r}: it could be {' or '.join(map(repr, alike))}; write it as the bundle does")
    if alike:
        return by_name[name.casefold()]
    if _is_number(name) and len(name) <= 12 and int(name) < len(names):
        raise RequestError(
            f"class {name!r}: no class has that name, and the classes have numbers for names, so a class id is written "
            f"{ID}{int(name)} (class {names[int(name)]!r}); the classes are {describe_classes(names)}"
        )
    from difflib import get_close_matches  # only for a message: not imported at start-up

    near = get_close_matches(name.casefold(), by_name, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(names[by_name[n]]) for n in near)}? " if near else ""
    raise RequestError(f"unknown class {name!r}: {hint}the classes are {describe_classes(names)}")


def _parse_weight(value: str, text: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        raise RequestError(f"labels {text!r}: the weight {value!r} is not a number") from None
    if not (math.isfinite(weight) and weight >= 0):
        raise RequestError(f"labels {text!r}: the weight {value!r} must be 0 or more")
    return weight


def _normalise(weights: Mapping[int, float], classes: int, text: str) -> tuple[float, ...]:
    try:
        total = math.fsum(weights.values())  # exact, so their order is not part of the plan
    except OverflowError:
        raise RequestError(f"labels {text!r}: the weights are too large to add up; give smaller ones") from None
    if total <= 0:
        raise RequestError(f"labels {text!r}: the weights add up to {total:g}; give at least one above 0")
    return tuple(weights.get(i, 0.0) / total for i in range(classes))
