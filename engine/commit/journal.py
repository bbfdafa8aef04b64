"""The lines in which finished shards are recorded. Each is self-contained; a damaged one counts as missing.

A line begins with a newline of its own, so a partial line, left by a full disk or a power cut, damages no other, and
several processes may append to one file.
"""

from __future__ import annotations

import json
import re
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.base.parse import Fields, list_of, text
from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.engine.commit.records import MAX_FILES, FileRecord, index_number

_DIGITS = 16
"""Hexadecimal digits of the SHA-256 that leads a line: more than enough to detect damage."""

_SHARD = re.compile(rb'"shard":([0-9]{1,12})}$')
"""The end of a line, whose keys are sorted."""

_IN_MEMORY = 16 << 20
"""Bytes of lines that are sorted without a temporary file."""


class JournaledFile(NamedTuple):
    """A file of a finished shard, and which version of it was recorded."""

    file: FileRecord

    version: str | None
    """The version of the file's :class:`~gen_engine.engine.sinks.contract.FileStat`; None in records of a manifest."""

    def to_json(self) -> dict[str, Any]:
        """Return the file's fields and ``version``."""
        return self.file.to_json() | {"version": self.version}

    @classmethod
    def from_json(cls, value: Any, where: str) -> JournaledFile:
        """Read what :meth:`to_json` returned; raises DocumentError."""
        with Fields(value, where) as fields:
            return cls(FileRecord.take(fields), fields.take("version", text()))


class Entry(NamedTuple):
    """A finished shard."""

    shard: int
    files: tuple[JournaledFile, ...]

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return {"shard": self.shard, "files": [file.to_json() for file in self.files]}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Entry:
        """Read what :meth:`to_json` returned; raises DocumentError."""
        with Fields(value, where) as fields:
            return cls(
                fields.take("shard", index_number),
                fields.take("files", _read_files),
            )


_read_files = list_of(JournaledFile.from_json, 1, MAX_FILES)


def to_line(entry: Entry) -> bytes:
    """Return the line to append for a finished shard."""
    return as_line(entry.to_json())


def as_line(document: Mapping[str, Any]) -> bytes:
    """Return a document as a line that carries its own digest."""
    body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return b"\n%s %s\n" % (sha256_bytes(body)[:_DIGITS].encode(), body)


def read_line(line: bytes) -> Entry | None:
    """Return what a line records, or None if it is damaged or inconsistent."""
    body = whole_line(line)
    return None if body is None else _parse(body)


def _parse(body: bytes) -> Entry | None:
    try:
        return Entry.from_json(parse_json(body), "")
    except DocumentError:
        return None


def whole_line(line: bytes) -> bytes | None:
    """Return the JSON of a line that is not damaged."""
    digest, _, body = line.strip(b"\n").partition(b" ")
    return body if body and sha256_bytes(body)[:_DIGITS].encode() == digest else None


def sorted_entries(lines: Iterable[bytes], shards: range) -> Iterator[Entry]:
    """Yield the records of these shards, in the order of the shards, and for each shard the last line first.

    16 bytes per line are kept in memory, and the lines themselves while they are few.
    """
    numbers, offsets = array("q"), array("q")
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="gen-engine-journal-") as spool:
        for line in lines:
            body = whole_line(line) or b""
            number = _SHARD.search(body)
            if number is not None and int(number[1]) in shards:
                numbers.append(int(number[1]))
                offsets.append(spool.tell())
                spool.write(body + b"\n")
        latest_first = -np.arange(len(numbers))
        for at in np.lexsort((latest_first, np.array(numbers, np.int64))):
            spool.seek(offsets[at])
            entry = _parse(spool.readline())
            if entry is not None and entry.shard == numbers[at]:
                yield entry
