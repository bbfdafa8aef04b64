"""Directories that no other user may write to."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from gen_engine.engine.base.files import FileRefused, kind_of


def make_private(path: Path) -> Path:
    """Create a directory that is private to this user, or return the existing one. Its parents must exist.

    Raises:
        FileRefused: it is a link or a file, belongs to another user, or may be written to by others.
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise FileRefused(errno.ENOTDIR, f"is {kind_of(status.st_mode)}, not a directory", str(path))
    if status.st_uid != os.geteuid():
        raise FileRefused(errno.EPERM, f"belongs to another user (uid {status.st_uid})", str(path))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise FileRefused(errno.EPERM, f"may be written to by others (mode {mode:o}); run chmod go-w on it", str(path))
    return path


def check_not_replaceable(path: Path) -> None:
    """Check that no other user may rename or replace the contents of a directory, including through its parents.

    A directory that others may write to passes if only a file's owner may rename it there (the sticky bit of /tmp), or
    if they are this user's own group.

    Raises:
        FileRefused: another user may.
    """
    for directory in (path.resolve(), *path.resolve().parents):
        status = directory.stat()
        others = stat.S_IWOTH | (0 if status.st_gid in (0, os.getegid()) else stat.S_IWGRP)
        if status.st_uid not in (0, os.geteuid()):
            reason = f"belongs to another user (uid {status.st_uid}), who may replace what is in it"
            raise FileRefused(errno.EPERM, reason, str(directory))
        if status.st_mode & others and not status.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(status.st_mode)
            raise FileRefused(errno.EPERM, f"may be written to by others (mode {mode:o})", str(directory))
