"""Streams: in order, each batch of the grid once, bounded ahead of the reader, and no worker outlives them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from later import LaterBackend

from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.stream import Stream
from gen_engine.engine.sample.schema import Batch
from gen_engine.engine.testing import make_schema

GRID = 4
SHAPE = (2, 2, 1)


def open_on(backend: LaterBackend) -> Callable[[], contextlib.AbstractContextManager[Renderer]]:
    labels = Labels(LabelPlan(kind="balanced"), ("a", "b", "c"), 0)
    schema = make_schema(SHAPE, ("a", "b", "c"))
    return lambda: contextlib.closing(Renderer(backend.open_stream(), GRID, Latents(dim=3, seed=1), labels, schema))


def allocate(start: int, stop: int) -> Batch:
    count = stop - start
    images, labels, indices = np.zeros((count, *SHAPE), np.uint8), np.zeros(count, np.int64), np.zeros(count, np.int64)
    return Batch(start, {"image": images, "label": labels, "index": indices})


def stream(backend: LaterBackend, start: int, stop: int, batch: int, workers: int = 2, tickets: int = 2) -> Stream:
    return Stream(
        open_on(backend),
        allocate,
        lambda: None,
        start=start,
        stop=stop,
        batch=batch,
        ticket=tickets * GRID,
        workers=workers,
    )


def workers_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stream-worker")]


@settings(max_examples=80)
@given(
    start=st.integers(0, 40),
    count=st.integers(1, 90),
    batch=st.integers(1, 100),
    workers=st.integers(1, 3),
    tickets=st.integers(1, 3),
    depth=st.integers(1, 3),
)
def test_any_cut_is_of_the_same_samples_and_no_batch_of_the_grid_is_rendered_twice(
    start: int, count: int, batch: int, workers: int, tickets: int, depth: int
) -> None:
    backend = LaterBackend(GRID, depth=depth)
    got = list(stream(backend, start, start + count, batch, workers, tickets).read())
    with open_on(LaterBackend(GRID, depth=1))() as renderer:
        whole = renderer.array(start, start + count)
    assert [len(samples) for samples in got[:-1]] == [batch] * (len(got) - 1)
    assert [samples.start for samples in got] == list(range(start, start + count, batch))
    for name in ("image", "label", "index"):
        np.testing.assert_array_equal(np.concatenate([samples[name] for samples in got]), whole[name])
    assert len(backend.submitted) == -(-(start + count) // GRID) - start // GRID
    assert not workers_alive()


def test_workers_work_ahead_and_only_so_far() -> None:
    backend = LaterBackend(GRID, depth=1)
    with contextlib.closing(stream(backend, 0, 10**9, 10).read()) as reading:
        for step in range(1, 4):
            next(reading)
            ahead = 10 * step + 10 + 2 * 2 * 2 * GRID
            wait_until(lambda limit=ahead: len(backend.submitted) * GRID >= limit)
            time.sleep(0.05)
            assert len(backend.submitted) * GRID < ahead + 2 * GRID


def test_the_arrays_are_the_callers() -> None:
    first, second = stream(LaterBackend(GRID, depth=2), 0, 8, 4).read()
    before = second["image"].copy()
    first["image"][:] = 255
    assert first["image"].flags.owndata
    assert first["image"].flags.writeable
    np.testing.assert_array_equal(second["image"], before)


def test_a_reader_that_leaves_ends_the_workers() -> None:
    backend = LaterBackend(GRID, depth=2)
    for _ in stream(backend, 0, 10**9, 3).read():
        break
    assert not workers_alive()
    assert [stream.closed for stream in backend.streams] == [True, True]


def test_a_reader_that_leaves_waits_for_a_batch_and_not_for_all_tickets() -> None:
    backend = LaterBackend(GRID, depth=1)
    for _ in stream(backend, 0, 10**9, GRID, workers=1, tickets=2000).read():
        break
    assert len(backend.submitted) < 2 * 2000


def test_an_error_of_the_reader_ends_the_workers() -> None:
    def read() -> None:
        for _ in stream(LaterBackend(GRID, depth=2), 0, 10**9, 3).read():
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        read()
    assert not workers_alive()


def test_the_first_error_of_a_worker_is_raised_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LaterBackend(GRID, depth=1)
    honest = backend.open_stream

    def open_stream() -> object:
        made = honest()
        if len(backend.streams) == 2:

            def the_one_that_fails() -> None:
                raise LookupError("the device is gone")

            made.collect = the_one_that_fails  # type: ignore[method-assign, assignment]
        return made

    monkeypatch.setattr(backend, "open_stream", open_stream)
    with pytest.raises(LookupError, match="the device is gone") as caught:
        for _ in stream(backend, 0, 10**9, 5).read():
            pass
    assert "the_one_that_fails" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not workers_alive()


def test_a_worker_that_does_not_open_is_an_error() -> None:
    class NoStream(LaterBackend):
        def open_stream(self) -> object:  # type: ignore[override]
            raise LookupError("no memory for a stream")

    with pytest.raises(LookupError, match="no memory for a stream"):
        list(stream(NoStream(GRID, depth=1), 0, 10, 5).read())
    assert not workers_alive()


def test_what_forbids_the_stream_to_go_on_ends_it_even_while_it_waits() -> None:
    leave = threading.Event()
    checks = iter([False, True])

    def check() -> None:
        if next(checks):
            leave.set()
            raise LookupError("closed")

    @contextlib.contextmanager
    def hangs() -> Iterator[Renderer]:
        leave.wait(10)
        with open_on(LaterBackend(GRID, depth=1))() as renderer:
            yield renderer

    with pytest.raises(LookupError, match="closed"):
        list(Stream(hangs, allocate, check, start=0, stop=3, batch=3, ticket=GRID, workers=1).read())
    assert leave.is_set()
    assert not workers_alive()


@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_ends_the_workers_before_it_is_passed_on() -> None:
    entered, leave = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def slow() -> Iterator[Renderer]:
        entered.set()
        leave.wait(10)
        with open_on(LaterBackend(GRID, depth=1))() as renderer:
            yield renderer

    def interrupt() -> None:
        entered.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        leave.set()

    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        list(Stream(slow, allocate, lambda: None, start=0, stop=10**9, batch=3, ticket=GRID, workers=1).read())
    assert not workers_alive()
    sender.join()


UNCLOSED = """
import threading
from gen_engine.engine import Generator
reading = Generator.open().stream(10**9, 10)
print(len(next(reading)), flush=True)
"""
FROM_A_THREAD = """
import threading, time
from gen_engine.engine import Generator

def read():
    for batch in Generator.open(workers=1).stream(1000, 10):
        time.sleep(0.01)
    print(batch["label"][-1], flush=True)

threading.Thread(target=read).start()
"""


@pytest.mark.parametrize(("script", "printed"), [(UNCLOSED, "10"), (FROM_A_THREAD, "9")])
def test_the_interpreter_ends_with_a_stream_that_nobody_closed_and_not_before_one_that_is_read(
    script: str, printed: str
) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, printed, "")


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)
