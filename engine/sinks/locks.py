"""Locks that the kernel releases when a process dies (flock), and that name their holder.

Lock files are opened as :func:`gen_engine.engine.base.durable.open_in_place` does: never through a link.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from gen_engine.engine.base.durable import open_in_place
from gen_engine.engine.errors import OutputLocked
from gen_engine.engine.sinks.confined import make_directory

LOCK_SECONDS = 300.0
"""A process holds the lock while it writes a plan or a manifest: after this time it hangs."""

_RETRY_S = 0.02


def take(path: Path) -> int | None:
    """Lock the file at ``path`` and return its descriptor, or None if another process holds it."""
    while True:
        descriptor = open_in_place(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_held(path, descriptor):
                _sign(descriptor)
                return descriptor
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise
        os.close(descriptor)  # its holder removed it between open and lock


def wait_for(root: Path, name: str) -> int:
    """Lock the file ``root / name``, which may be created and removed with its directory, and return its descriptor.

    Raises:
        OutputLocked: another process held it for :data:`LOCK_SECONDS`.
    """
    directory, _, lock = name.rpartition("/")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        path = make_directory(root, directory) / lock
        try:
            descriptor = open_in_place(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            continue  # another process has just finished and removed the directory
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_held(path, descriptor):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = _signature(descriptor)
                os.close(descriptor)
                raise OutputLocked(
                    f"{root} is being opened or finished by another process ({holder}) for more than "
                    f"{LOCK_SECONDS:.0f} s; check why it hangs, and run the same command again"
                ) from None
            time.sleep(_RETRY_S)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed between open and lock, in which case it locks nothing, or is locked


def holder_of(lock: Path) -> str | None:
    """Return the holder of a lock file, None if it is not locked."""
    try:
        descriptor = open_in_place(lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _signature(descriptor)
    finally:
        os.close(descriptor)
    return None


def is_free(path: Path, device: int, inode: int) -> bool:
    """Return whether a lock file is the one with this device and inode, and no process holds it."""
    try:
        descriptor = open_in_place(path, os.O_RDWR)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (device, inode):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_held(path: Path, descriptor: int) -> bool:
    """Return whether the file at ``path`` is the one that was opened, not a later one of the same name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)


def _signature(descriptor: int) -> str:
    text = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
    return "".join(filter(str.isprintable, text)) or "unknown"
