"""Standard streams that may be closed, full or without a reader: failing to print never affects the work.

A program that starts with descriptor 0, 1 or 2 closed gives that number to the next file it opens, and what a C library
prints to standard error then ends up in a shard. So closed ones are opened on ``/dev/null`` first.
"""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Final, TextIO

STDIN, STDOUT, STDERR = 0, 1, 2

PRINTS: Final = "gen_engine.prints"
"""Key of a click context's ``meta`` that a command sets if it only prints this time, as with ``--dry-run``."""

closed_at_start: set[int] = set()
"""Descriptors that were closed when the process started."""


_PLAIN: Final = re.compile(r"[\n\t\r -~]*")

_CURSOR: Final = re.compile(r"(\x1b\[(?:K|\?25[hl]))")
"""Control sequences of click's progress bar: clear to the end of the line, show and hide the cursor."""


def terminal_text(text: str) -> str:
    """Return text with control characters escaped, except line ends, tabs and a progress bar's sequences."""
    if _PLAIN.fullmatch(text):
        return text
    from gen_engine.engine.base.text import shown

    return "".join(part if _CURSOR.fullmatch(part) else shown(part, layout=True) for part in _CURSOR.split(text))


class Output(io.TextIOWrapper):
    """A text stream to a descriptor, whose failed writes are recorded, not raised.

    Characters that its encoding lacks are escaped, and so are control characters: text may come from a file.
    """

    def __init__(self, descriptor: int, before: TextIO | None) -> None:
        errors = getattr(before, "errors", None) or "strict"
        super().__init__(
            io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)),
            encoding=getattr(before, "encoding", None) or "utf-8",
            errors="backslashreplace" if errors == "strict" else errors,
            line_buffering=descriptor == STDERR or os.isatty(descriptor),
        )
        self.failure: OSError | None = None
        """The first error of a write."""

    def write(self, text: str) -> int:
        """Write ``text``, or lose it."""
        try:
            super().write(terminal_text(text))
        except OSError as error:
            self.failure = self.failure or error
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, if possible. Waits for a pipe that was made non-blocking."""
        while True:
            try:
                return super().flush()
            except BlockingIOError:
                import select

                select.select([], [self], [])
            except OSError as error:
                self.failure = self.failure or error
                return None


class StandardStreams:
    """The standard streams of this process, made safe to write to. Created once, before any file is opened."""

    def __init__(self) -> None:
        closed_at_start.update(filter(_open_missing, (STDIN, STDOUT, STDERR)))
        if sys.stdin is None:
            sys.stdin = open(STDIN, closefd=False, encoding="utf-8")  # noqa: SIM115
        self._out = sys.stdout = sys.__stdout__ = Output(STDOUT, sys.stdout)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = Output(STDERR, sys.stderr)  # type: ignore[misc]

    def lost_output(self) -> OSError | None:
        """Flush standard output, and return why some of it could not be written; None if it was, or was closed."""
        self._out.flush()
        return self._out.failure


def _open_missing(descriptor: int) -> bool:
    """Open ``/dev/null`` as a descriptor if it is closed, and return whether it was."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, which is this one
        os.set_inheritable(opened, True)
        return True
    return False
