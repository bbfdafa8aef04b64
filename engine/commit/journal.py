"""The lines in which finished shards are recorded. Each stands for itself; a damaged one is as if it were not there.

A line begins with a line end of its own. So what a full disk or a power cut left of the line before it can spoil no
other, and several processes may append to one file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gen_engine.engine.base.digests import sha256_bytes

_DIGITS = 16
"""Hexadecimal digits of the SHA-256 that leads a line: more than enough to tell damage."""


class Entry(NamedTuple):
    """A finished shard."""

    shard: int

    files: list[dict[str, Any]]
    """``{"name": …, "bytes": …, "blake3": …, "stamp": …}`` for each of its files, with ``"sha256"`` if it was taken.

    The stamp is that of :class:`gen_engine.engine.sinks.contract.Seen`, or None if it is not known.
    """


def to_line(entry: Entry) -> bytes:
    """Return the line to append for a finished shard."""
    body = json.dumps(entry._asdict(), sort_keys=True, separators=(",", ":")).encode()
    return b"\n%s %s\n" % (sha256_bytes(body)[:_DIGITS].encode(), body)


def read_line(line: bytes) -> Entry | None:
    """Return what a line records, or None if it is damaged."""
    digest, _, body = line.strip(b"\n").partition(b" ")
    if not body or sha256_bytes(body)[:_DIGITS].encode() != digest:
        return None
    return Entry(**json.loads(body))


def newest(lines: Iterable[bytes], shards: range) -> Iterator[Entry]:
    """Yield what whole lines record of these shards, in order, and of a shard's lines what the last one says."""
    found: dict[int, bytes] = {}  # as bytes: of 100,000 shards, dicts would take four times the memory
    for line in lines:
        entry = read_line(line)
        if entry is not None and entry.shard in shards:
            found[entry.shard] = line
    for shard in sorted(found):
        entry = read_line(found[shard])
        assert entry is not None
        yield entry
