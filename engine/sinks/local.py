"""A directory on a file system that this machine mounts. Below it, no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from gen_engine.engine.base.digests import blake3_stream
from gen_engine.engine.base.durable import fsync_directory, open_in_place, replace_file
from gen_engine.engine.base.files import DOCUMENT, check_regular, open_regular, read_stream
from gen_engine.engine.errors import OutputError, OutputLocked
from gen_engine.engine.plan.parts import Part
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks.confined import children, confined, make_directory, regular_stat, remove_tree, walk
from gen_engine.engine.sinks.contract import FileStat
from gen_engine.engine.sinks.locks import holder_of, take, wait_for
from gen_engine.engine.sinks.names import DRAFT, MANIFEST, PLAN, PREVIEW_COPY, REFUSAL, STATE

_PARTS = f"{STATE}/parts"

_JOURNAL = 16 << 30
"""Limit in bytes of a journal, which is read line by line."""

_MAX_LINE = 1 << 20
"""Limit in bytes of a journal's line: a longer one is damaged, and is read in pieces of this size."""


class LocalReader:
    """A :class:`~gen_engine.engine.sinks.contract.DatasetReader` of a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def uri(self) -> str:
        """The directory's path."""
        return str(self._root)

    def exists(self, name: str) -> bool:
        """Return whether a regular file exists."""
        return regular_stat(self._root, name) is not None

    def read(self, name: str, limit: int = DOCUMENT) -> bytes:
        """Return a file's bytes."""
        with open_regular(confined(self._root, name), limit, follow_symlinks=False) as file:
            return read_stream(file, limit, self._root / name)

    def open(self, name: str) -> BinaryIO:
        """Open a file."""
        return open_regular(confined(self._root, name), follow_symlinks=False)

    def stat(self, name: str) -> FileStat | None:
        """Return a file's size and modification time."""
        status = regular_stat(self._root, name)
        return None if status is None else _file_stat(status)

    def snapshot(self) -> Callable[[str], FileStat | None]:
        """Return a quick :meth:`stat`."""
        confined(self._root, "data/any")
        root = f"{self._root}/"

        def stat(name: str) -> FileStat | None:
            try:
                status = os.lstat(root + name)  # a Path for each of 300,000 files takes seconds
            except FileNotFoundError:
                return None
            check_regular(root + name, status)
            return _file_stat(status)

        return stat

    def list(self) -> list[str]:
        """Return all files and directories in ``data``, recursively."""
        return list(walk(self._root, "data"))

    def digest(self, name: str) -> str:
        """Hash a file."""
        with self.open(name) as file:
            return blake3_stream(file)


class LocalSink(LocalReader):
    """A :class:`~gen_engine.engine.sinks.contract.Sink`. Locks are the kernel's (flock), released when a process dies.

    Args:
        root: the directory; made by :meth:`lock`.
        part: whose scratch and journal are used.
    """

    def __init__(self, root: Path, part: Part) -> None:
        super().__init__(root)
        self._part = part
        self._part_dir = f"{_PARTS}/{part.name}"

    @property
    def scratch(self) -> Path:
        """On the file system of the dataset, so that a file is published by a rename. Created on first use."""
        return self._root / self._part_dir / "scratch"

    def check_empty(self) -> None:
        """Refuse a directory that holds other files, before anything is written to it."""
        if not self._root.exists():
            return
        if not self._root.is_dir():
            raise OutputError(f"{self._root} is not a directory; choose another --out")
        names = {entry.name for entry in self._root.iterdir()}
        if names and STATE not in names and MANIFEST not in names:
            raise OutputError(
                f"{self._root} is not empty and holds no gen-engine job (it has {sorted(names)[0]!r}); "
                "choose another --out"
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the state itself."""
        self._root.mkdir(parents=True, exist_ok=True)
        lock = f"{STATE}/lock"
        descriptor = wait_for(self._root, lock)
        try:
            yield
        finally:
            try:
                if regular_stat(self._root, PLAN) is None:
                    self._leave_no_trace(lock)
            finally:
                os.close(descriptor)

    def _leave_no_trace(self, lock: str) -> None:
        remove_tree(self._root, _PARTS)
        if not (self._root / MANIFEST).exists():
            with contextlib.suppress(OSError):
                confined(self._root, "data").rmdir()  # on its own, it would look like another program's file
        with contextlib.suppress(OSError):
            confined(self._root, lock).unlink()
            confined(self._root, STATE).rmdir()

    def acquire_part(self) -> Callable[[], None]:
        """Lock the part's directory. It is created and removed only under the lock, so an unlocked one is stale."""
        make_directory(self._root, _PARTS)
        dead = []
        for name in children(self._root, _PARTS):
            holder = holder_of(confined(self._root, f"{_PARTS}/{name}/lock"))
            if holder is None:
                dead.append(name)
            elif name == self._part.name or name.partition("-")[2] != self._part.name.partition("-")[2]:
                raise OutputLocked(
                    f"{self._root} is being written by another process: part {name.replace('-of-', '/')}, "
                    f"{holder}; wait for it, or choose another --out"
                )
        for name in dead:
            confined(self._root, f"{_PARTS}/{name}/scratch/any")  # a link of this name is refused, not removed
            remove_tree(self._root, f"{_PARTS}/{name}/scratch")
        for directory in (self._part_dir, f"{self._part_dir}/scratch", "data"):
            make_directory(self._root, directory)
        descriptor = take(self._root / self._part_dir / "lock")
        assert descriptor is not None, "it was just free, and parts are acquired only under the lock"
        try:
            os.close(open_in_place(self._root / self._part_dir / "journal", os.O_WRONLY | os.O_CREAT))
            for directory in (self._part_dir, _PARTS, STATE, ""):
                fsync_directory(self._root / directory)
        except BaseException:
            os.close(descriptor)
            raise
        return lambda: os.close(descriptor)

    def create(self, name: str, data: bytes) -> bool:
        """Write it unless it exists: under the lock, there is no race with another process."""
        if self.exists(name):
            return False
        self.write(name, data)
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write through scratch."""
        make_directory(self._root, f"{self._part_dir}/scratch")  # a process that only finishes a job holds no part
        regular_stat(self._root, name)
        replace_file(self._root / name, data, self.scratch)

    def publish(self, files: Sequence[WrittenFile]) -> list[FileStat]:
        """Rename, then make the names durable."""
        for file in files:
            regular_stat(self._root, file.name)
            file.temporary.replace(self._root / file.name)
        for directory in {(self._root / file.name).parent for file in files}:
            fsync_directory(directory)
        return [_file_stat((self._root / file.name).lstat()) for file in files]

    def append(self, line: bytes) -> None:
        """Append in one call, which the kernel makes atomic with respect to other processes."""
        descriptor = open_in_place(confined(self._root, f"{self._part_dir}/journal"), os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def journal(self) -> Iterator[bytes]:
        """Yield the lines of all journals."""
        for part in children(self._root, _PARTS):
            path = confined(self._root, f"{_PARTS}/{part}/journal")
            with (
                contextlib.suppress(FileNotFoundError),
                open_regular(path, _JOURNAL, follow_symlinks=False) as file,
            ):
                while line := file.readline(_MAX_LINE):
                    yield line

    def clear(self) -> None:
        """Remove the parts' directories, then the plan; the lock removes the rest."""
        remove_tree(self._root, _PARTS)
        for name in (PREVIEW_COPY, REFUSAL, DRAFT, PLAN):
            confined(self._root, name).unlink(missing_ok=True)
        fsync_directory(confined(self._root, STATE))

    def close(self) -> None:
        """Do nothing: all files belong to the dataset."""


def _file_stat(status: os.stat_result) -> FileStat:
    return FileStat(status.st_size, str(status.st_mtime_ns))
