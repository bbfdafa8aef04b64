"""What every place that datasets are written to promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from gen_engine.engine.sample.shard import WrittenFile


class Seen(NamedTuple):
    """A file as it is there now."""

    bytes: int

    stamp: str
    """Another one once the file was written again: its time, or its ETag."""


class Sink(Protocol):
    """The files of one dataset, by their names relative to it, for one part of a job.

    A sink holds no lock and no open file by itself: it can be pickled, and used by several processes and threads of
    its part at once. What goes wrong is an OSError, or an OutputError that says the fix.
    """

    @property
    def place(self) -> str:
        """What messages call it: the directory or the URL."""
        ...

    @property
    def scratch(self) -> Path:
        """A local directory for files under construction, of this part alone."""
        ...

    def refuse_strangers(self) -> None:
        """Raise OutputError if somebody else's files are there."""
        ...

    def gate(self) -> AbstractContextManager[None]:
        """Keep other parts from beginning and from finishing meanwhile, where the place has locks.

        Outside of it no state is left if there is no plan in it.

        Raises:
            OutputLocked: somebody else does not let go of it.
        """
        ...

    def hold(self) -> Callable[[], None]:
        """Take the part for this process and return what lets go of it; clear its scratch. To be called in the gate.

        Raises:
            OutputLocked: another process has this part, or a part of a job that is cut up otherwise.
        """
        ...

    def exists(self, name: str) -> bool:
        """Return whether a file is there."""
        ...

    def read(self, name: str) -> bytes:
        """Return a small file.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file of any size for reading; it can be read twice, by seeking back.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...

    def stat(self, name: str) -> Seen | None:
        """Return how a file is there now, None if it is not."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Put a small file there unless one is there already, and return whether it was put. In the gate only."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Put a small file there whole or not at all, durably."""
        ...

    def store(self, files: Sequence[WrittenFile]) -> list[Seen]:
        """Move finished local files to their names, each whole or not at all; durable when this returns.

        Returns:
            How each of them is there now.
        """
        ...

    def record(self, line: bytes) -> None:
        """Append a line to the journal of this part, durably. Of concurrent lines, none harms another."""
        ...

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the journals of all parts. Among them may be damaged ones."""
        ...

    def look(self) -> Callable[[str], Seen | None]:
        """Return what tells of a file how it is there now, None if it is not."""
        ...

    def shard_files(self) -> Iterable[str]:
        """Return the names of all files in ``data``."""
        ...

    def blake3(self, name: str) -> str:
        """Return the BLAKE3 of a file in hexadecimal."""
        ...

    def clear(self) -> None:
        """Remove the state of a finished job. A kill in here loses nothing. To be called in the gate."""
        ...

    def close(self) -> None:
        """Remove what is on this machine and no part of the dataset. Never raises."""
        ...
