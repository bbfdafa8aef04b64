"""Whether a place to write to is apart from one that is read."""

from __future__ import annotations

from pathlib import Path

from gen_engine.engine.errors import RequestError
from gen_engine.engine.sinks import is_url


def check_apart(place: str | Path, out: str | Path) -> None:
    """Raise RequestError if one of two locations lies within the other."""
    if is_url(place) != is_url(out):
        return
    one, other = (_parts(where) for where in (place, out))
    shared = min(len(one), len(other))
    if one[:shared] == other[:shared]:
        raise RequestError(f"output {out} and {place} lie within each other: give another --out")


def _parts(place: str | Path) -> tuple[str, ...]:
    return tuple(str(place).rstrip("/").split("/")) if is_url(place) else Path(place).resolve().parts
