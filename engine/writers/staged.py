"""A temporary file of a shard, hashed as it is written. Every attempt at a shard has its own file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path
from typing import NoReturn

from blake3 import blake3

from gen_engine.engine.base.durable import begin_writing, temporary_name
from gen_engine.engine.errors import WriterError
from gen_engine.engine.sample.shard import WrittenFile

GATHERED = 1 << 17
"""Bytes of small writes that are buffered: labels and indices arrive in a few hundred bytes per batch."""

AHEAD = 4 << 20
"""Interval in bytes at which writeback is started: otherwise it starts at the fsync, and the job's end waits for it."""


class StagedFile:
    """Append-only; a file-like object as far as libraries that write to one need it.

    Args:
        scratch: the directory for temporary files, on the file system of the dataset.
        name: the file's final name, relative to the dataset directory.
        sha256: compute this digest too.

    Raises:
        WriterError: it cannot be created, written or made durable.
    """

    closed = False
    mode = "wb"

    def __init__(self, scratch: Path, name: str, *, sha256: bool = False) -> None:
        self.name = name
        self._path = scratch / temporary_name(name.replace("/", "__"))
        self._bytes = 0
        self._blake3 = blake3()
        self._sha256 = hashlib.sha256() if sha256 else None
        self._gathered = bytearray()
        self._written = self._begun = 0
        try:
            self._file = self._path.open("xb", buffering=0)
        except OSError as error:
            self._fail(error)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append ``data`` (any C-contiguous buffer) and return its length in bytes."""
        view = memoryview(data).cast("B")
        self._bytes += view.nbytes
        if len(self._gathered) + view.nbytes < GATHERED:
            self._gathered += view
        else:
            self._write_gathered()
            self._write(view)
        return view.nbytes

    def _write_gathered(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        self._write(memoryview(gathered))

    def _write(self, view: memoryview) -> None:
        rest = view
        try:
            while rest:  # an unbuffered write may be a short one
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            self._fail(error)
        self._blake3.update(view)
        if self._sha256 is not None:
            self._sha256.update(view)
        self._written += view.nbytes
        if self._written - self._begun >= AHEAD:
            begin_writing(self._file.fileno(), self._begun, self._written - self._begun)
            self._begun = self._written

    def tell(self) -> int:
        """Return the number of bytes appended so far."""
        return self._bytes

    def flush(self) -> None:
        """Do nothing: :meth:`finish` writes what is still buffered."""

    def close(self) -> None:
        """Do nothing: only :meth:`finish` and :meth:`discard` end the file, not a library that wrote to it."""

    def finish(self) -> WrittenFile:
        """Make the bytes durable, close the file, and return its record."""
        self._write_gathered()
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            self._fail(error)
        sha256 = None if self._sha256 is None else self._sha256.hexdigest()
        return WrittenFile(self.name, self._path, self._bytes, self._blake3.hexdigest(), sha256)

    def discard(self) -> None:
        """Close and remove the file. Never raises."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _fail(self, error: OSError) -> NoReturn:
        raise write_error(self.name, self._bytes, error) from error


def write_error(name: str, written: int, error: OSError) -> WriterError:
    """Return the error for a failed write, with the fix for the usual causes."""
    fix = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "raise the quota",
        errno.EROFS: "choose a directory that can be written",
        errno.EACCES: "choose a directory that can be written",
        errno.EMFILE: "raise the limit of open files (ulimit -n), or choose --format parquet",
        errno.EFBIG: "choose a smaller --shard-size",
    }.get(error.errno or 0, "check the disk")
    return WriterError(
        f"{name}: cannot be written after {written:,} bytes ({error.strerror}); {fix} and run the same command "
        "again: finished shards are kept"
    )
