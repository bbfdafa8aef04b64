"""A directory on a file system that this machine mounts."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from gen_engine.engine.base.digests import blake3_file
from gen_engine.engine.base.durable import fsync_directory, replace_file
from gen_engine.engine.base.files import LISTING, open_regular, read_bounded
from gen_engine.engine.errors import OutputError, OutputLocked
from gen_engine.engine.plan.parts import Part
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks.contract import Seen
from gen_engine.engine.sinks.locks import holder_of, take, wait_for
from gen_engine.engine.sinks.names import MANIFEST, PLAN, STATE


class LocalSink:
    """A :class:`Sink`. Locks are the kernel's (flock), so a process that dies lets go of them.

    Args:
        out: the directory; made by :meth:`gate`.
        part: whose scratch and journal are used.
    """

    def __init__(self, out: Path, part: Part) -> None:
        self._out, self._part = out, part
        self._state = out / STATE
        self._rooms = self._state / "parts"
        self._room = self._rooms / part.name
        self._journal = self._room / "journal"

    @property
    def place(self) -> str:
        """The directory's path."""
        return str(self._out)

    @property
    def scratch(self) -> Path:
        """On the file system of the dataset, so that a file is put in place by a rename."""
        return self._room / "scratch"

    def refuse_strangers(self) -> None:
        """Refuse a directory that holds files of somebody else's, before anything is put into it."""
        if not self._out.exists():
            return
        if not self._out.is_dir():
            raise OutputError(f"{self._out} is not a directory; choose another --out")
        names = {entry.name for entry in self._out.iterdir()}
        if names and STATE not in names and MANIFEST not in names:
            raise OutputError(
                f"{self._out} is not empty and holds no gen-engine job (it has {sorted(names)[0]!r}); "
                "choose another --out"
            )

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        """Hold the lock of the state itself."""
        self._out.mkdir(parents=True, exist_ok=True)
        lock = self._state / "lock"
        descriptor = wait_for(lock)
        try:
            yield
        finally:
            if not (self._out / PLAN).exists():
                self._leave_no_trace(lock)
            os.close(descriptor)

    def _leave_no_trace(self, lock: Path) -> None:
        _remove_tree(self._rooms)
        if not (self._out / MANIFEST).exists():
            with contextlib.suppress(OSError):
                (self._out / "data").rmdir()  # alone, it would make the directory a stranger's
        with contextlib.suppress(OSError):
            lock.unlink()
            self._state.rmdir()

    def hold(self) -> Callable[[], None]:
        """Lock the part's room. Rooms come and go in the gate only, so what is not locked there is nobody's."""
        self._rooms.mkdir(exist_ok=True)
        dead = []
        for room in self._rooms.iterdir():
            holder = holder_of(room / "lock")
            if holder is None:
                dead.append(room)
            elif room == self._room or room.name.partition("-")[2] != self._part.name.partition("-")[2]:
                raise OutputLocked(
                    f"{self._out} is being written by another process: part {room.name.replace('-of-', '/')}, "
                    f"{holder}; wait for it, or choose another --out"
                )
        for room in dead:
            shutil.rmtree(room / "scratch", ignore_errors=True)
        for directory in (self._room, self.scratch, self._out / "data"):
            directory.mkdir(exist_ok=True)
        descriptor = take(self._room / "lock")
        assert descriptor is not None, "it was free a moment ago, and parts are taken in the gate only"
        try:
            os.close(os.open(self._journal, os.O_WRONLY | os.O_CREAT, 0o644))
            for directory in (self._room, self._rooms, self._state, self._out):
                fsync_directory(directory)
        except BaseException:
            os.close(descriptor)
            raise
        return lambda: os.close(descriptor)

    def exists(self, name: str) -> bool:
        """Return whether a file is there."""
        return (self._out / name).exists()

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return read_bounded(self._out / name, LISTING)

    def open(self, name: str) -> BinaryIO:
        """Open a file."""
        return open_regular(self._out / name)

    def stat(self, name: str) -> Seen | None:
        """Return a file's size and time of its last change."""
        return self.look()(name)

    def create(self, name: str, data: bytes) -> bool:
        """Write it, unless it is there: in the gate, nobody comes between."""
        if self.exists(name):
            return False
        self.write(name, data)
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write by way of scratch."""
        if not self.scratch.is_dir():
            self.scratch.mkdir(parents=True, exist_ok=True)  # whoever only finishes a job holds no part
        replace_file(self._out / name, data, self.scratch)

    def store(self, files: Sequence[WrittenFile]) -> list[Seen]:
        """Rename, then make the names durable."""
        for file in files:
            file.temporary.replace(self._out / file.name)
        for directory in {(self._out / file.name).parent for file in files}:
            fsync_directory(directory)
        return [_seen((self._out / file.name).stat()) for file in files]

    def record(self, line: bytes) -> None:
        """Append in one call, which the kernel keeps apart from those of other processes."""
        descriptor = os.open(self._journal, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of all journals."""
        for journal in sorted(self._rooms.glob("*/journal")):
            with open_regular(journal) as file:
                yield from file

    def look(self) -> Callable[[str], Seen | None]:
        """Tell by the file's size and time of its last change."""
        root = f"{self._out}/"

        def seen(name: str) -> Seen | None:
            try:
                found = os.stat(root + name)  # noqa: PTH116 - a Path for each of 300,000 files takes seconds
            except FileNotFoundError:
                return None
            return _seen(found)

        return seen

    def shard_files(self) -> list[str]:
        """Return all files and directories in ``data``, at any depth."""
        return sorted(path.relative_to(self._out).as_posix() for path in (self._out / "data").rglob("*"))

    def blake3(self, name: str) -> str:
        """Hash a file."""
        return blake3_file(self._out / name)

    def clear(self) -> None:
        """Remove the rooms, then the plan; the gate removes the rest."""
        _remove_tree(self._rooms)
        for name in ("preview.png", "draft.json", "plan.json"):
            (self._state / name).unlink(missing_ok=True)
        fsync_directory(self._state)

    def close(self) -> None:
        """Do nothing: all there is belongs to the dataset."""


def _seen(found: os.stat_result) -> Seen:
    return Seen(found.st_size, str(found.st_mtime_ns))


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
