"""What every store of datasets promises, by job: reading one, publishing files, and holding a job's state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from gen_engine.engine.base.files import DOCUMENT
from gen_engine.engine.sample.shard import WrittenFile


class FileStat(NamedTuple):
    """A file as it is there now."""

    bytes: int

    version: str
    """Changes whenever the file is written again: its modification time, or its ETag."""


class DatasetReader(Protocol):
    """Reads the files of one dataset, by their names relative to it. Holds nothing, changes nothing, can be pickled.

    All methods raise an OSError if the store fails, FileRefused (an OSError too) for a link or anything else that is
    not a regular file, and OutputUnavailable if the store does not answer.
    """

    @property
    def uri(self) -> str:
        """The directory or the URL, for messages, without credentials."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether the file is there."""
        ...

    def read(self, name: str, limit: int = DOCUMENT) -> bytes:
        """Return the bytes of a file of at most ``limit`` bytes.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; seekable, and only what is read is transferred.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...

    def stat(self, name: str) -> FileStat | None:
        """Return the state of a file, None if it is not there."""
        ...

    def snapshot(self) -> Callable[[str], FileStat | None]:
        """Return :meth:`stat` for many files: where it is cheaper, answered from one listing of ``data`` made now."""
        ...

    def list(self) -> Iterable[str]:
        """Return the names of all files in ``data``, sorted."""
        ...

    def digest(self, name: str) -> str:
        """Return the BLAKE3 of a file in hexadecimal.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...


class Publisher(Protocol):
    """Puts files in their place, each whole or not at all, and durable when the call returns."""

    def write(self, name: str, data: bytes) -> None:
        """Put a small file there, replacing what is there."""
        ...

    def publish(self, files: Sequence[WrittenFile]) -> list[FileStat]:
        """Move finished local files to their names and return how each of them is there now."""
        ...


class JobState(Protocol):
    """The state of a running job, for one of its parts: locks, the plan, the journals, and scratch.

    A process that does not hold the part changes nothing of it: it neither clears its scratch nor releases its lock.
    """

    @property
    def scratch(self) -> Path:
        """A local directory for files under construction: the part's where this process holds it, else its own."""
        ...

    def check_empty(self) -> None:
        """Raise OutputError if files are there that belong to no job."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from beginning and from finishing the job meanwhile, where the store has such a lock.

        After it no state is left if there is no plan.

        Raises:
            OutputLocked: another process did not release it in time.
        """
        ...

    def acquire_part(self) -> Callable[[], None]:
        """Take the part for this process, clear its scratch, and return what releases it. Only under :meth:`lock`.

        Raises:
            OutputLocked: another process holds this part, or a part of a different division of the job.
        """
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Put a small file there unless one is there, and return whether it was put. Only under :meth:`lock`."""
        ...

    def append(self, line: bytes) -> None:
        """Append a line to the journal of this part, durably. Concurrent lines do not harm each other.

        Raises:
            OutputLocked: the part was taken over by another process, since this one could not renew its lease.
        """
        ...

    def journal(self) -> Iterator[bytes]:
        """Yield the lines of the journals of all parts, damaged ones among them."""
        ...

    def clear(self) -> None:
        """Remove the state of a finished job. A kill in here loses nothing. Only under :meth:`lock`."""
        ...

    def close(self) -> None:
        """Remove what this process made outside of the dataset. Never raises."""
        ...


class Sink(DatasetReader, Publisher, JobState, Protocol):
    """All three, for one part of a job.

    It can be pickled, and used by several threads and processes of its part at once: a copy shares the part that the
    original holds, and releases nothing.
    """
