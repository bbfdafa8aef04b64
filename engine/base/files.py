"""Open files for reading; the only module of the package that does so.

Whatever a path leads to, reading it neither blocks, nor has side effects, nor exhausts memory: the file is regular, and
its size is compared with a limit before a byte is read. All refusals are OSErrors, so a caller's handler for an
unreadable file covers them too.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, ClassVar

_BLOCK = 1 << 20


DOCUMENT = 64 << 20
"""Limit in bytes, as all of these, of a JSON or TOML document, or a record."""

LISTING = 256 << 20
"""A text with an entry per epoch or operation."""

MODEL = 2 << 30
"""A graph with its weights, an engine built from one, or a checkpoint. A single ONNX file cannot be larger."""

DATA = 16 << 30
"""Training data that are loaded into memory as a whole."""

IMAGE = 1 << 30
"""One encoded image."""

SYSTEM = 16 << 20
"""A kernel file whose stated size is 0."""

RAISED_BY = "GEN_ENGINE_MAX_FILE_BYTES"
"""The environment variable that raises every lower limit."""


class FileRefused(OSError):
    """A path does not lead to a regular file within its limit. Uncaught, it ends the command as bad input."""

    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        """Return the path and what is wrong with it."""
        return f"{self.filename} {self.strerror}"


def open_regular(
    path: str | os.PathLike[str],
    limit: int | None = None,
    *,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> BinaryIO:
    """Open a regular file for reading, buffered.

    Args:
        path: the file.
        limit: refuse more bytes than this; None for a file that is read block by block, and so may have any size.
        dir_fd: the open directory that a relative path starts at.
        follow_symlinks: False to refuse a symbolic link as the path's last component.

    Raises:
        FileRefused: it is a directory, FIFO, socket or device, a link where none may be, or too large.
        OSError: it does not exist, or may not be read.
    """
    # Checked before it is opened, since opening a device may have side effects, and again after that: paths change.
    _check(path, os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks), limit)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow_symlinks else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=dir_fd)
    try:
        _check(path, os.fstat(descriptor), limit)
        return io.open(descriptor, "rb")  # noqa: UP020 - the one place
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(
    path: str | os.PathLike[str], limit: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        FileRefused, OSError: see :func:`open_regular`; also if the file grows beyond the limit meanwhile.
    """
    with open_regular(path, limit, dir_fd=dir_fd, follow_symlinks=follow_symlinks) as file:
        return read_stream(file, limit, path)


def read_text(path: str | os.PathLike[str], limit: int = DOCUMENT, *, errors: str = "strict") -> str:
    """Return the text of a regular file in UTF-8; raises like :func:`read_bounded`, and UnicodeDecodeError."""
    return read_bounded(path, limit).decode(errors=errors)


def read_stream(file: BinaryIO, limit: int, path: str | os.PathLike[str]) -> bytes:
    """Return the rest of an open file, which :func:`open_regular` or a store opened.

    Raises:
        FileRefused: it is more than the limit.
    """
    blocks, size = [], 0
    while block := file.read(_BLOCK):
        size += len(block)
        if size > limit:
            _check_size(path, size, limit)
        blocks.append(block)
    return b"".join(blocks)


def regular_size(path: Path) -> int:
    """Return the size of a regular file in bytes; raises like :func:`open_regular`."""
    status = path.stat()
    check_regular(path, status)
    return status.st_size


def kind_of(mode: int) -> str:
    """Return what a file of this ``st_mode`` is, for messages."""
    kinds = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "of an unknown kind")


def check_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    """Raise FileRefused unless a path leads to a regular file."""
    if not stat.S_ISREG(status.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise FileRefused(code, f"is {kind_of(status.st_mode)}, not a regular file", os.fspath(path))


def _check(path: str | os.PathLike[str], status: os.stat_result, limit: int | None) -> None:
    check_regular(path, status)
    if limit is not None and status.st_size > limit:
        _check_size(path, status.st_size, limit)


def _check_size(path: str | os.PathLike[str], size: int, limit: int) -> None:
    raised = os.environ.get(RAISED_BY, "")
    if size > max(limit, int(raised) if raised.isdecimal() else 0):
        fix = f"set {RAISED_BY} to a greater number of bytes if they are meant to be read"
        raise FileRefused(errno.EFBIG, f"has {size:,} bytes, and at most {limit:,} are read; {fix}", os.fspath(path))
