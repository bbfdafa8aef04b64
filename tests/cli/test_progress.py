"""Progress on a terminal, in a log, and when told to be quiet."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import pytest

from gen_engine.cli.progress import Progress, duration


class Clock:
    """Time that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(clock: Clock, file: TextIO, *, steps: int, seconds: float, total: int, done: int = 0, **options) -> None:
    """Make ``total - done`` samples of 1 kB in equal steps over the given seconds."""
    with Progress(total, label="sample", done=done, file=file, clock=clock, **options) as progress:
        n = (total - done) // steps
        for _ in range(steps):
            clock.now += seconds / steps
            progress.advance(n, nbytes=1000 * n)


def test_a_log_gets_a_line_every_ten_seconds(clock: Clock) -> None:
    log = io.StringIO()
    run(clock, log, steps=480, seconds=60, total=60_000)
    lines = log.getvalue().splitlines()
    assert lines[0] == "sample: 10000/60000 (17%)  1,000 samples/s  1.0 MB/s  ETA 0:50"
    assert len(lines) == 6


def test_rates_count_this_run_alone(clock: Clock) -> None:
    log = io.StringIO()
    run(clock, log, steps=2, seconds=20, total=1000, done=800)
    assert log.getvalue().splitlines()[0] == "sample: 900/1000 (90%)  10 samples/s  0.0 MB/s  ETA 0:10"


def test_a_short_job_and_a_quiet_one_write_nothing_to_a_log(clock: Clock) -> None:
    log = io.StringIO()
    run(clock, log, steps=10, seconds=5, total=100)
    run(clock, log, steps=10, seconds=500, total=100, quiet=True)
    assert log.getvalue() == ""


def test_a_note_stays_until_the_next(clock: Clock) -> None:
    log = io.StringIO()
    with Progress(30, label="train", unit="images", file=log, clock=clock) as progress:
        for note in ("D 0.5 G 1.2", None, "D 0.4 G 1.3"):
            clock.now += 10
            progress.advance(10, note=note)
    ends = [line.split("  ")[-1] for line in log.getvalue().splitlines()]
    assert ends == ["D 0.5 G 1.2", "D 0.5 G 1.2", "D 0.4 G 1.3"]
    assert "images/s" in log.getvalue()
    assert "MB/s" not in log.getvalue()


def test_nothing_to_do(clock: Clock) -> None:
    log = io.StringIO()
    with Progress(0, label="sample", file=log, clock=clock) as progress:
        clock.now += 20
        progress.advance(0)
    assert log.getvalue() == "sample: 0/0 (100%)\n"


@contextmanager
def terminal(columns: int) -> Iterator[tuple[TextIO, list[bytes]]]:
    """Yield a terminal's end to write to, and the list that what is written has been read into once the block ends."""
    screen, keyboard = os.openpty()
    fcntl.ioctl(keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    drawn: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # EIO: the other end was closed
            while chunk := os.read(screen, 1 << 16):
                drawn.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(keyboard, "w") as file:
        yield file, drawn
    reader.join()
    os.close(screen)


def on_terminal(columns: int, clock: Clock, **how: float) -> list[str]:
    """Return what a terminal of that width is told to draw, one line a redraw."""
    with terminal(columns) as (file, drawn):
        run(clock, file, **how)
    text = re.sub(r"\x1b\[\?25[lh]", "", b"".join(drawn).decode())
    return [line for line in text.split("\r") if line.strip()]


def test_a_terminal_gets_a_bar_redrawn_ten_times_a_second(clock: Clock) -> None:
    lines = on_terminal(120, clock, steps=256, seconds=2, total=2024, done=1000)
    assert 16 <= len(lines) <= 22
    assert "1000/2024" in lines[0]
    assert re.search(r"\[#+-+\]  1\d{3}/2024  512 samples/s  0.5 MB/s  ETA 0:02", lines[3])
    assert "[##############################]  2024/2024  512 samples/s" in lines[-1]


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_line_never_wraps(clock: Clock, columns: int) -> None:
    lines = on_terminal(columns, clock, steps=20, seconds=20, total=100_000)
    assert max(len(line.rstrip()) for line in lines) < columns
    assert "100000/100000" in lines[-1]


def test_an_interrupted_bar_ends_its_line(clock: Clock) -> None:
    with (
        terminal(80) as (file, drawn),
        pytest.raises(KeyboardInterrupt),
        Progress(10, label="sample", file=file, clock=clock),
    ):
        raise KeyboardInterrupt
    assert b"".join(drawn).endswith(b"\r\n")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (90_000, "1d 1:00:00"), (7 * 86_400, "7d 0:00:00")],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
