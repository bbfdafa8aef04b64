"""Threads that stop together: all the work once, and one error ends it all."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from functools import partial

import pytest

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.errors import BackendError
from gen_engine.engine.render.threads import Stopped, StopSignal, run_threads, thread_limit


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_each_work_is_run_once_on_a_thread_of_its_own(count: int) -> None:
    done: list[tuple[int, int]] = []
    together = threading.Barrier(max(1, count))

    def work(number: int) -> None:
        together.wait(10)
        done.append((number, threading.get_ident()))

    run_threads([partial(work, number) for number in range(count)], StopSignal())
    assert sorted(number for number, _ in done) == list(range(count))
    assert len({thread for _, thread in done}) == count


def test_the_first_error_stops_the_others_and_is_raised_with_its_traceback() -> None:
    stop = StopSignal()
    batches = 0

    def patient() -> None:
        nonlocal batches
        while True:
            stop.check()
            batches += 1
            time.sleep(0.001)

    def the_one_that_fails() -> None:
        while not batches:
            time.sleep(0.001)
        raise LookupError("first")

    with pytest.raises(LookupError, match="first") as caught:
        run_threads([patient, the_one_that_fails, patient], stop)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "the_one_that_fails" in frames


def test_a_stopped_thread_is_not_an_error() -> None:
    stop = StopSignal()
    stop.check()
    stop.set()
    with pytest.raises(Stopped):
        stop.check()
    run_threads([stop.check, stop.check], stop)


@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_stops_the_threads_before_it_is_passed_on() -> None:
    stop = StopSignal()
    started = threading.Barrier(3)
    before = set(threading.enumerate())  # other tests' libraries keep threads of their own

    def patient() -> None:
        started.wait(10)
        while True:
            stop.check()
            time.sleep(0.001)

    def interrupt() -> None:
        started.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        run_threads([patient, patient], stop)
    sender.join()
    deadline = time.monotonic() + 10  # one that was just being started is stopped, and ends by itself
    while not (left := set(threading.enumerate())) <= before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left <= before


def test_system_exit_is_passed_on_too() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run_threads([leave], StopSignal())


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (RuntimeError("can't start new thread"), True),
        (BlockingIOError(11, "Resource temporarily unavailable"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("cannot schedule new futures after shutdown"), False),
        (PermissionError(13, "Permission denied"), False),
    ],
)
def test_a_limit_is_named_and_nothing_else(error: Exception, named: bool) -> None:
    with pytest.raises(BackendError if named else type(error)) as caught, thread_limit():
        raise error
    assert ("use fewer --workers, or raise its limits" in str(caught.value)) is named


def test_usable_cpus() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
