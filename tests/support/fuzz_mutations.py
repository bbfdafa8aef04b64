"""Mutations of files: bytes, JSON documents that are sealed again, and what a directory can hold in a file's place."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import seal

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 10**30, 1e308, 0.5, "", "0", "\x00", "\x1b[31m", "a" * 5000,
    "../../etc/passwd", "/etc/passwd", "data/../../x", "<script>", "\n---\n", "\u202e", [], [[]], {}, {"": 0}, [None],
    "NaN", ["a"] * 1000,
)  # fmt: skip
"""Values that a field of a document may be given."""

RAW = (b"\x00", b"\xff\xfe", b"NaN", b"Infinity", b"1e999", b"{" * 3000, b"[" * 100_000, b'"\\ud800"', b"\xef\xbb\xbf")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with one to four local changes: flips, cuts, insertions, repetitions."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        span = rng.choice((1, 2, 4, 8, 64, 1024))
        match rng.randrange(7):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at : at + span]
            case 2:
                changed[at:at] = rng.randbytes(span)
            case 3:
                changed[at:at] = changed[at : at + span] * rng.randint(1, 50)
            case 4:
                del changed[at:]
            case 5:
                changed[at : at + span] = rng.choice((b"\xff", b"\x00", b"\x7f")) * span
            case _:
                changed[at:at] = rng.choice(RAW)
    return bytes(changed)


def mutate_document(document: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a copy of a JSON document with one to three fields replaced, removed, added or moved."""
    changed = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(changed))
        if not places:
            break
        holder, key = rng.choice(places)
        value = holder[key]
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
            case 2 if isinstance(value, int) and not isinstance(value, bool):
                holder[key] = value + rng.choice((-1, 1, 10**6, -(10**9)))
            case 3 if isinstance(value, str) and value:
                holder[key] = value[: rng.randrange(len(value))] + rng.choice(("", "x", "\n", "/", "é"))
            case 4:
                other, name = rng.choice(places)
                holder[key] = copy.deepcopy(other.get(name) if isinstance(other, dict) else other[name % len(other)])
            case _:
                holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    return changed


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value in a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from _places(value)


def mutate_sealed(data: bytes, rng: random.Random) -> bytes:
    """Return a sealed document with other contents and a seal that is right again."""
    document = json.loads(data)
    document.pop("digest", None)
    try:
        return seal(mutate_document(document, rng))
    except (ValueError, UnicodeError):  # NaN, a lone surrogate: canonical JSON has no form for it
        return mutate_bytes(data, rng)


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Return lines of text with one of them changed, dropped, repeated or moved."""
    lines = data.splitlines(keepends=True)
    if not lines or rng.random() < 0.4:
        return mutate_bytes(data, rng)
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines.insert(to, lines.pop(at))
        case _:
            lines[at] = mutate_bytes(lines[at], rng)
    return b"".join(lines)


def special_file(path: Path, rng: random.Random) -> None:
    """Put something that is not a regular file of sane size at ``path``."""
    path.unlink()
    kinds: tuple[Callable[[], object], ...] = (
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to("/etc/hostname"),
        lambda: path.symlink_to(path.name),
        path.mkdir,
        lambda: _sparse(path, 1 << 40),
        lambda: path.write_bytes(b""),
    )
    rng.choice(kinds)()


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)
