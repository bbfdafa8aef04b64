"""Paths below a dataset's root, none of whose components is a link.

The root itself is the user's choice and may be a link. Its contents may have been prepared by others, so a link there
is refused, not followed: no read, write or deletion leaves the dataset.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from gen_engine.engine.base.durable import fsync_directory
from gen_engine.engine.base.files import FileRefused, check_regular, kind_of


def confined(root: Path, name: str) -> Path:
    """Return ``root / name``, whose existing parents below the root are all directories.

    Raises:
        FileRefused: one of them is a link or another file.
    """
    parts = PurePosixPath(name).parts
    if ".." in parts or PurePosixPath(name).is_absolute():
        raise FileRefused(errno.EINVAL, f"leads outside of {root}", name)
    directory(root, parts[:-1])
    return root / name


def directory(root: Path, parts: Sequence[str]) -> Path | None:
    """Return a directory below the root, None if it does not exist; raises like :func:`confined`."""
    path = root
    for part in parts:
        path = path / part
        if not _is_directory(path):
            return None
    return path


def regular_stat(root: Path, name: str) -> os.stat_result | None:
    """Return the stat of a regular file below the root, None if it does not exist.

    Raises:
        FileRefused: it is anything else.
    """
    path = confined(root, name)
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):  # the root itself may be a file
        return None
    check_regular(path, status)
    return status


def make_directory(root: Path, name: str) -> Path:
    """Make a directory below the root, with its parents, unless it exists; their names are durable on return.

    Raises:
        FileRefused: a link or another file has its name, or that of a parent.
    """
    path = root
    for component in PurePosixPath(name).parts:
        path = path / component
        if not _is_directory(path):
            with contextlib.suppress(FileExistsError):  # another process has just created it
                path.mkdir()
                fsync_directory(path.parent)
            _is_directory(path)
    return path


def children(root: Path, name: str) -> list[str]:
    """Return the names in a directory below the root, sorted; empty if it does not exist; raises like confined."""
    path = directory(root, PurePosixPath(name).parts)
    return [] if path is None else sorted(entry.name for entry in path.iterdir())


def walk(root: Path, name: str) -> Iterator[str]:
    """Yield the entries of a directory below the root, recursively, by names relative to the root. Follows no links."""
    for child in children(root, name):
        yield f"{name}/{child}"
        if stat.S_ISDIR((root / name / child).lstat().st_mode):
            yield from walk(root, f"{name}/{child}")


def remove_tree(root: Path, name: str) -> None:
    """Remove a directory below the root with its contents, or a file or link, but never a link's target.

    Never raises: what cannot be removed is left.
    """
    with contextlib.suppress(OSError):
        path = confined(root, name)
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
        for child in children(root, name):
            remove_tree(root, f"{name}/{child}")
        path.rmdir()


def _is_directory(path: Path) -> bool:
    """Return whether the directory exists; raise FileRefused if it is anything else."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISDIR(mode):
        fix = "links there are not followed: put the directory in its place" if stat.S_ISLNK(mode) else "remove it"
        raise FileRefused(errno.ENOTDIR, f"is {kind_of(mode)}, not a directory; {fix}", str(path))
    return True
