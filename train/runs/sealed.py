"""A directory of files and one sealed JSON record that has the size and SHA-256 of each: complete or absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import seal, sha256_bytes
from gen_engine.engine.base.durable import fsync_directory, write_file
from gen_engine.engine.base.files import read_bounded
from gen_engine.engine.base.parse import Fields, digest, integer

PREFIX = ".tmp-"
"""Begins the names of directories that are being written, or removed."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file of the directory, as recorded."""

    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, value: Any, where: str) -> Stored:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(bytes=fields.take("bytes", integer(0, 2**50)), sha256=fields.take("sha256", digest))


def write_sealed(target: Path, record: str, document: Mapping[str, Any], files: Iterable[tuple[str, bytes]]) -> None:
    """Commit a directory: files and record are written beside it and fsynced, then it is renamed.

    OSError when the disk refuses, or `target` is there already.

    Args:
        target: the directory to make, in one that is there.
        record: name of the record, which gets `files` beside what `document` holds.
        document: the rest of the record.
        files: names and contents, made one at a time; the record has the names without their suffixes.
    """
    temporary = target.with_name(f"{PREFIX}{target.name}")
    temporary.mkdir()
    stored = {}
    for name, content in files:
        write_file(temporary / name, content)
        stored[name.rpartition(".")[0]] = {"bytes": len(content), "sha256": sha256_bytes(content)}
    write_file(temporary / record, seal({**document, "files": stored}))
    fsync_directory(temporary)
    temporary.rename(target)
    fsync_directory(target.parent)


def read_stored(file: Path, stored: Stored) -> bytes:
    """The content of a file, checked against its record; ValueError or OSError when it differs or cannot be read."""
    content = read_bounded(file, stored.bytes)
    if len(content) != stored.bytes:
        raise ValueError(f"it has {len(content):,} bytes, recorded were {stored.bytes:,}")
    actual = sha256_bytes(content)
    if actual != stored.sha256:
        raise ValueError(f"SHA-256 is {actual}, recorded was {stored.sha256}")
    return content


def sweep(parent: Path) -> None:
    """Remove what a killed save left."""
    for path in parent.glob(f"{PREFIX}*"):
        shutil.rmtree(path)


def discard(path: Path) -> None:
    """Remove a committed directory; the rename first, so a kill leaves no half of one under its name."""
    doomed = path.with_name(f"{PREFIX}{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)
