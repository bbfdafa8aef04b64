"""Writes that survive a crash: temp file, fsync, rename, fsync of the directory."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from gen_engine.engine.base.files import FileRefused, check_regular


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Write and fsync a new file. Its name is durable once the directory is fsynced too.

    Raises:
        FileExistsError: the name is taken, even by a dangling link.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def temporary_name(name: str) -> str:
    """Return a unique name for a file under construction."""
    return f"{name}.{os.urandom(6).hex()}.tmp"


def replace_file(path: Path, data: bytes, scratch: Path) -> None:
    """Write ``data`` to ``path`` atomically and durably, through a new file in ``scratch``."""
    temporary = scratch / temporary_name(path.name)
    try:
        write_file(temporary, data)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    fsync_directory(path.parent)


def open_in_place(path: Path, flags: int) -> int:
    """Open a file that is written in place, such as a lock or a journal, and return its descriptor.

    Args:
        path: the file.
        flags: of ``os.open``: how to write, and whether to create it.

    Raises:
        FileRefused: it is not a regular file, or has another name (a hard link), under which it would change too.
        OSError: it cannot be opened.
    """
    try:
        _check_single(path, path.lstat())
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o644)
    try:
        _check_single(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_single(path: Path, status: os.stat_result) -> None:
    check_regular(path, status)
    if status.st_nlink > 1:
        raise FileRefused(errno.EMLINK, f"has {status.st_nlink} names (hard links); make it a copy", str(path))


def begin_writing(descriptor: int, offset: int, size: int) -> None:
    """Start writeback of these bytes without waiting for it, so that a later fsync has little to do.

    An optimisation only: where the system has no such call, nothing happens, and errors are ignored.
    """
    if sys.platform == "linux" and (call := _sync_file_range()) is not None:
        call(descriptor, offset, size, _SYNC_FILE_RANGE_WRITE)


@lru_cache(maxsize=1)
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    import ctypes  # here: small jobs do not need it

    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_SYNC_FILE_RANGE_WRITE = 2
"""From <fcntl.h>."""


def exchange(one: Path, other: Path) -> None:
    """Exchange two directories, in one system call on Linux, so that each name always refers to one of them.

    Elsewhere, and on file systems that cannot, ``other`` does not exist for the moment between two renames.
    """
    if _exchange_at_once(one, other):
        return
    aside = other.with_name(f"{one.name}.old")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def _exchange_at_once(one: Path, other: Path) -> bool:
    """Call renameat2 with RENAME_EXCHANGE; return False where there is no such call."""
    import ctypes  # here: no sampling job needs it

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""From <fcntl.h> and <linux/fs.h>."""
