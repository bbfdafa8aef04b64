"""Where two JSON documents differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return ``(dotted field, old value, new value)`` wherever two plans in JSON form differ."""
    differing: list[tuple[str, Any, Any]] = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            differing += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            differing.append((f"{prefix}{key}", a, b))
    return differing
