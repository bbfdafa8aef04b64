"""A lock in an object store: an object that names its holder, which renews it while it works.

It is created by a conditional put (only if absent), and renewed or taken over only if it is still in the version that
was read. Another process takes it over once it has expired, judged by the store's time of the last renewal and, since
clocks differ, by watching that no renewal arrives; or at once if the holder was on this machine and is dead, which the
kernel's lock on a file of the holder shows.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_engine.engine.base.files import SYSTEM, read_text
from gen_engine.engine.errors import EngineError, OutputLocked
from gen_engine.engine.sinks.locks import is_free
from gen_engine.engine.sinks.objects import Objects, age_s, file_stat
from gen_engine.engine.sinks.patience import start_thread

LEASE_S = 60.0
"""Seconds without a renewal after which a lease has expired."""

_MAX_BYTES = 4096
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Terms:
    """The times of a lease."""

    seconds: float = LEASE_S

    @property
    def renewal_s(self) -> float:
        """Seconds between two renewals."""
        return self.seconds / 5

    @property
    def watch_s(self) -> float:
        """Seconds for which an expired lease is watched before it is taken over: more than one renewal."""
        return self.seconds / 3


class Lease:
    """One lease, held by this object or not.

    Args:
        objects: the store.
        name: of the object.
        lock: the descriptor of a local file that this process keeps locked, and its path.
        terms: the times.
    """

    def __init__(self, objects: Objects, name: str, lock: tuple[int, Path], terms: Terms) -> None:
        self._objects, self._name, self._terms = objects, name, terms
        self._lock, self._lock_path = lock
        self._owner, self._boot = os.urandom(8).hex(), _boot_id()
        self._renewals = 0
        self._held, self._renewed = False, 0.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.taken_by: str | None = None
        """The process that took the lease over from this object, None if it is still ours as far as we know."""
        self.conditional = True
        """False if the store ignores or lacks conditional puts, so that two processes may briefly hold it."""

    def acquire(self, refuse: Callable[[str], OutputLocked]) -> None:
        """Take the lease and begin to renew it.

        Args:
            refuse: makes the error from a description of the holder.

        Raises:
            OutputLocked: another process holds it.
        """
        lease = self._read()
        if lease is not None:
            self._take_over(*lease, refuse)
        elif self._objects.put_if_absent(self._name, self._content()) is None:
            self._objects.put(self._name, self._content())
        lease = self._read()
        if lease is None or lease[0].get("owner") != self._owner:
            raise refuse("another process" if lease is None else _holder(lease[0]))
        # A second conditional put, which must fail on a store that supports conditions.
        self.conditional = self._objects.put_if_absent(self._name, self._content()) is False
        self._held, self._renewed = True, time.monotonic()
        self._thread = start_thread(self._renew_until_stopped, "lease")

    def release(self) -> bool:
        """Remove the lease if it is ours, and return whether it certainly no longer is. Never raises."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        if self._held and time.monotonic() - self._renewed > self._terms.seconds:
            return False  # another process may be taking it over
        try:
            lease = self._read()
            if lease is not None and lease[0].get("owner") == self._owner:
                self._objects.remove([self._name])
        except (OSError, EngineError):
            return False
        return True

    def _take_over(
        self, document: dict[str, Any], info: Mapping[str, Any], refuse: Callable[[str], OutputLocked]
    ) -> None:
        """Replace an expired lease, unless its holder renews it or another process is faster."""
        if not is_dead_here(document, self._lock, self._lock_path):
            left = self._seconds_left(document, info)
            if left > 0:
                raise refuse(f"{_holder(document)}, whose lease expires in {left:.0f} s unless it is renewed")
            time.sleep(self._terms.watch_s)
        version = file_stat(info).version
        if self._objects.put_if_version(self._name, self._content(), version) is None:
            again = self._objects.info(self._name)
            if again is not None and file_stat(again).version == version:
                self._objects.put(self._name, self._content())

    def _seconds_left(self, document: Mapping[str, Any], info: Mapping[str, Any]) -> float:
        seconds, age = document.get("seconds"), age_s(info)
        stated = float(seconds) if isinstance(seconds, int | float) and 0 < seconds < 3600 else self._terms.seconds
        return stated if age is None else stated - age

    def _renew_until_stopped(self) -> None:
        while not self._stopped.wait(self._terms.renewal_s):
            try:
                self._renew()
            except (OSError, EngineError):
                continue  # retried; no other process takes it until it has expired
            if self.taken_by is not None:
                return

    def _renew(self) -> None:
        lease = self._read()
        if lease is None or lease[0].get("owner") != self._owner:
            self.taken_by = "a process that finished the job" if lease is None else _holder(lease[0])
            return
        self._renewals += 1
        version = file_stat(lease[1]).version
        if self._objects.put_if_version(self._name, self._content(), version) is None:
            self._objects.put(self._name, self._content())
        self._renewed = time.monotonic()

    def _read(self) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
        return read_lease(self._objects, self._name)

    def _content(self) -> bytes:
        status = os.fstat(self._lock)
        document = {
            "owner": self._owner,
            "holder": f"process {os.getpid()} on {os.uname().nodename}",
            "seconds": self._terms.seconds,
            "renewals": self._renewals,
            "boot": self._boot,
            "lock": [str(self._lock_path), status.st_dev, status.st_ino],
        }
        return json.dumps(document).encode()


def read_lease(objects: Objects, name: str) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
    """Return a lease's document and the store's information about its object, None if it does not exist.

    A damaged one is treated as having an unknown holder.
    """
    lease = objects.read_with_info(name, _MAX_BYTES)
    if lease is None:
        return None
    try:
        document = json.loads(lease[0])
    except (ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {}, lease[1]


def is_dead_here(document: Mapping[str, Any], own: int, own_path: Path) -> bool:
    """Return whether the holder of a lease was a process of this machine that is no longer alive.

    Args:
        document: the lease's.
        own: a lock file that this process holds and the holder may have held before.
        own_path: its path.
    """
    match document.get("lock"):
        case [str(path), int(device), int(inode)] if document.get("boot") == _boot_id() != "":
            pass
        case _:
            return False
    if Path(path) == own_path:
        status = os.fstat(own)
        return (status.st_dev, status.st_ino) == (device, inode)
    return is_free(Path(path), device, inode)


def _boot_id() -> str:
    try:
        return read_text(_BOOT_ID, SYSTEM).strip()
    except OSError:
        return ""


def _holder(document: Mapping[str, Any]) -> str:
    holder = document.get("holder")
    return "".join(filter(str.isprintable, holder))[:200] if isinstance(holder, str) else "unknown"
