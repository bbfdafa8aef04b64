"""The contracts of dataset stores: reading a dataset, publishing files, and keeping a job's state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from gen_engine.engine.base.files import DOCUMENT
from gen_engine.engine.sample.shard import WrittenFile


class FileStat(NamedTuple):
    """The current state of a file."""

    bytes: int

    version: str
    """Changes whenever the file is rewritten: its modification time, or its ETag."""


class DatasetReader(Protocol):
    """Reads the files of one dataset, by their names relative to it. Holds no locks, changes nothing, can be pickled.

    All methods raise an OSError if the store fails, FileRefused (an OSError too) for a link or anything else that is
    not a regular file, and OutputUnavailable if the store does not answer.
    """

    @property
    def uri(self) -> str:
        """The directory or the URL, for messages, without credentials."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether the file exists."""
        ...

    def read(self, name: str, limit: int = DOCUMENT) -> bytes:
        """Return the bytes of a file of at most ``limit`` bytes.

        Raises:
            FileNotFoundError: it does not exist.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; seekable, transferring only the ranges that are read.

        Raises:
            FileNotFoundError: it does not exist.
        """
        ...

    def stat(self, name: str) -> FileStat | None:
        """Return the state of a file, None if it does not exist."""
        ...

    def snapshot(self) -> Callable[[str], FileStat | None]:
        """Return :meth:`stat` for many files: where cheaper, answered from a single listing of ``data`` made now."""
        ...

    def list(self) -> Iterable[str]:
        """Return the names of all files in ``data``, sorted."""
        ...

    def digest(self, name: str) -> str:
        """Return the BLAKE3 of a file in hexadecimal.

        Raises:
            FileNotFoundError: it does not exist.
        """
        ...


class Publisher(Protocol):
    """Publishes files, each atomically, and durably when the call returns."""

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, replacing an existing one."""
        ...

    def publish(self, files: Sequence[WrittenFile]) -> list[FileStat]:
        """Move finished local files to their names and return the state of each."""
        ...


class JobState(Protocol):
    """The state of a running job, for one of its parts: locks, the plan, the journals, and scratch.

    A process that does not hold the part does not modify it: it neither clears its scratch nor releases its lock.
    """

    @property
    def scratch(self) -> Path:
        """A local directory for files under construction: the part's if this process holds it, else its own."""
        ...

    def check_empty(self) -> None:
        """Raise OutputError if the output contains files that belong to no job."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Prevent other processes from beginning or finishing the job meanwhile, where the store has such a lock.

        No state is left after the block if there is no plan.

        Raises:
            OutputLocked: another process did not release it in time.
        """
        ...

    def acquire_part(self) -> Callable[[], None]:
        """Acquire the part for this process, clear its scratch, and return a callback that releases it.

        Only under :meth:`lock`.

        Raises:
            OutputLocked: another process holds this part, or a part of a different division of the job.
        """
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless it exists, and return whether it was written. Only under :meth:`lock`."""
        ...

    def append(self, line: bytes) -> None:
        """Append a line to the journal of this part, durably. Concurrent appends do not interfere.

        Raises:
            OutputLocked: another process has taken the part over, since this one could not renew its lease.
        """
        ...

    def journal(self) -> Iterator[bytes]:
        """Yield the lines of the journals of all parts, including damaged ones."""
        ...

    def clear(self) -> None:
        """Remove the state of a finished job. A kill during the call loses nothing. Only under :meth:`lock`."""
        ...

    def close(self) -> None:
        """Remove what this process created outside of the dataset. Never raises."""
        ...


class Sink(DatasetReader, Publisher, JobState, Protocol):
    """All three, for one part of a job.

    It can be pickled, and used concurrently by several threads and processes of its part: a copy shares the part that
    the original holds, and releases nothing.
    """
