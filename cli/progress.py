"""The progress bar of long commands, on stderr: a bar on a terminal, a periodic line in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

BAR_EVERY_S: Final = 0.1
"""At most ten redraws per second: a terminal can cost more than the work it reports."""

LINE_EVERY_S: Final = 10.0
"""Without a terminal: often enough to show that a batch job is alive, rarely enough to keep its log short."""

MAX_BAR: Final = 30
MIN_BAR: Final = 8


class Progress:
    """Count ``done`` towards ``total`` and report it; use as a context manager, from one thread.

    On a terminal it draws a bar; elsewhere it writes a line at most every `LINE_EVERY_S` seconds; with ``quiet`` it
    writes nothing. ``done`` is what an earlier run finished: it fills the bar but does not count in the rates, which
    are means over this run.

    ::

        with Progress(1_000_000, label="sample", done=resumed) as progress:
            for shard in finished:
                progress.advance(shard.count, nbytes=shard.nbytes)
    """

    def __init__(
        self,
        total: int,
        *,
        label: str,
        done: int = 0,
        unit: str = "samples",
        quiet: bool = False,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.label = label
        self.unit = unit
        self.done = done
        self._done_before = done
        self._nbytes = 0
        self._note = ""
        self._shown = ""
        self._quiet = quiet
        self._file = file if file is not None else sys.stderr
        self._clock = clock
        self._start = self._said = clock()
        self._bar: ProgressBar[int] | None = None

    def __enter__(self) -> Progress:
        self._start = self._said = self._clock()
        if not self._quiet and self._file.isatty():
            self._bar = click.progressbar(
                length=self.total,
                label=self.label,
                file=self._file,
                width=MAX_BAR,
                show_eta=False,  # click's bar would count an earlier run's samples as made in no time
                show_pos=True,
                item_show_func=lambda _: self._shown or None,
            )
            self._fit()
            self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._fit()
            self._bar.render_progress()
            self._bar.__exit__(kind, error, trace)
            self._bar = None

    def advance(self, n: int, *, nbytes: int = 0, note: str | None = None) -> None:
        """Count ``n`` more done and ``nbytes`` more written; ``note`` replaces the text at the end of the line."""
        self.done += n
        self._nbytes += nbytes
        if note is not None:
            self._note = note
        if self._quiet:
            return
        now = self._clock()
        if now - self._said < (LINE_EVERY_S if self._bar is None else BAR_EVERY_S):
            return
        self._said = now
        if self._bar is not None:
            self._fit()
            self._bar.render_progress()
        else:
            share = self.done / self.total if self.total else 1.0
            place = f"{self.label}: {self.done}/{self.total} ({share:.0%})"
            click.echo("  ".join(filter(None, [place, self._figures()])), file=self._file)

    def _fit(self) -> None:
        """Fit the bar to the terminal: a line that wraps would leave a copy at each redraw."""
        assert self._bar is not None
        bar, figures = self._bar, self._figures()
        room = _columns(self._file) - 1 - len(f"{self.label}  []  {self.done}/{self.total}  ")
        bar.width = min(bar.width, max(MIN_BAR, room - len(figures)))  # never wider again, to avoid jitter
        self._shown = figures[: max(0, room - bar.width)]
        bar.pos = self.done

    def _figures(self) -> str:
        """Return the rates, the time left and the note; no rates before there is something to divide."""
        seconds = self._clock() - self._start
        made = self.done - self._done_before
        parts = []
        if made > 0 and seconds > 0:
            parts.append(f"{made / seconds:,.0f} {self.unit}/s")
            if self._nbytes:
                parts.append(f"{self._nbytes / seconds / 1e6:,.1f} MB/s")
            if self.done < self.total:
                parts.append(f"ETA {duration((self.total - self.done) * seconds / made)}")
        return "  ".join(filter(None, [*parts, self._note]))


def _columns(file: TextIO) -> int:
    """Return the width of the terminal behind ``file``; stdout, which shutil asks, may be a pipe at the time."""
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except OSError:
        return 80


def duration(seconds: float) -> str:
    """Format seconds as ``m:ss``, ``h:mm:ss`` or ``2d h:mm:ss``."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if not (days or hours):
        return f"{minutes}:{whole:02}"
    clock = f"{hours}:{minutes:02}:{whole:02}"
    return f"{days}d {clock}" if days else clock


class Screen:
    """A job's monitor that draws a progress bar on stderr. Workers report concurrently, so a lock serialises them."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(*error)

    def started(self, total: int, done: int, workers: int) -> None:
        """Open the bar."""
        if 0 < done < total and not self._quiet:
            self.message(f"resuming: {done:,} of {total:,} samples exist")
        self._progress = Progress(total, label="sample", done=done, quiet=self._quiet)
        self._progress.__enter__()

    def rendered(self, samples: int) -> None:
        """Advance the bar."""
        self._advance(samples, 0)

    def committed(self, samples: int, size: int) -> None:
        """Count the bytes."""
        self._advance(0, size)

    def message(self, text: str) -> None:
        """Print a message for the user, also with ``--quiet``."""
        with self._lock:
            click.echo(text, err=True)

    def _advance(self, samples: int, size: int) -> None:
        assert self._progress is not None
        with self._lock:
            self._progress.advance(samples, nbytes=size)
