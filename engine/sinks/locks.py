"""Locks that the kernel lets go of when a process dies (flock), and that say who holds them."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from gen_engine.engine.errors import OutputLocked

GATE_SECONDS = 300.0
"""Who holds the gate writes a plan or a manifest: for longer than that it hangs."""

_LOOK_AGAIN_S = 0.02


def take(path: Path) -> int | None:
    """Lock the file at ``path`` and return its descriptor, or None if somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sign(descriptor)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def wait_for(path: Path) -> int:
    """Lock the file at ``path``, which may come and go with its directory, and return its descriptor."""
    patience = time.monotonic() + GATE_SECONDS
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # another process finished just now and removed the directory
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_held(path, descriptor):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            if time.monotonic() > patience:
                holder = os.read(descriptor, 200).decode(errors="replace").strip()
                os.close(descriptor)
                raise OutputLocked(
                    f"{path.parent.parent} is being opened or finished by another process ({holder or 'unknown'}) for "
                    f"more than {GATE_SECONDS:.0f} s; see what it hangs at, and run the same command again"
                ) from None
            time.sleep(_LOOK_AGAIN_S)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed between open and lock, in which case it holds nothing, or is locked


def _is_held(path: Path, descriptor: int) -> bool:
    """True if the lock file at ``path`` is the one that was opened, and not a later one of the same name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)


def holder_of(lock: Path) -> str | None:
    """Return who holds a lock file, None if nobody does."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 200).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None
