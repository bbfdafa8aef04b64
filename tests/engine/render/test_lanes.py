"""Lanes: all the work once, and one error ends it all."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator

import pytest

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.render.lanes import Behind, Stopped, StopSignal, run_lanes


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("lanes", [1, 2, 7])
def test_every_item_is_worked_on_once_and_each_lane_calls_its_own_work(lanes: int) -> None:
    done: list[tuple[int, int, int]] = []
    works = [lambda item, i=i: done.append((item, i, threading.get_ident())) for i in range(lanes)]
    run_lanes(works, iter(range(1000)), StopSignal())
    assert sorted(item for item, _, _ in done) == list(range(1000))
    assert len({(lane, thread) for _, lane, thread in done}) == len({lane for _, lane, _ in done})


def test_no_items_and_no_lanes() -> None:
    run_lanes([lambda item: pytest.fail("no item")], iter(()), StopSignal())
    run_lanes([], iter(()), StopSignal())


def test_items_are_taken_as_they_are_needed() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    def work(item: int) -> None:
        if item == 5:
            raise ValueError(item)

    with pytest.raises(ValueError, match="5"):
        run_lanes([work], endless(), StopSignal())
    assert taken == 5


def test_the_first_error_stops_the_others_and_is_raised_with_its_traceback() -> None:
    stop = StopSignal()
    batches = 0

    def patient(_: int) -> None:
        nonlocal batches
        while True:
            stop.check()
            batches += 1
            time.sleep(0.001)

    def the_one_that_fails(_: int) -> None:
        while not batches:
            time.sleep(0.001)
        raise LookupError("first")

    with pytest.raises(LookupError, match="first") as caught:
        run_lanes([patient, the_one_that_fails, patient], iter(range(3)), stop)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "the_one_that_fails" in frames


def test_a_stopped_lane_is_no_error() -> None:
    stop = StopSignal()
    stop.check()
    stop.set()
    with pytest.raises(Stopped):
        stop.check()
    run_lanes([lambda item: pytest.fail("stopped before the first item")], iter(range(3)), stop)


@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_stops_the_lanes_before_it_is_passed_on() -> None:
    stop = StopSignal()
    started = threading.Barrier(3)
    before = set(threading.enumerate())  # other tests' libraries keep threads of their own

    def patient(_: int) -> None:
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
        run_lanes([patient, patient], iter(range(10)), stop)
    assert set(threading.enumerate()) <= {*before, sender}  # which may still be on its way out
    sender.join()


def test_an_error_that_is_no_exception_passes_too() -> None:
    def leave(_: int) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run_lanes([leave], iter([1]), StopSignal())


def test_usable_cpus() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


class TestBehind:
    def test_one_piece_at_a_time_in_order_beside_the_lane(self) -> None:
        behind, going_on, done = Behind(StopSignal()), threading.Event(), []

        def piece(number: int) -> None:
            going_on.wait(10)
            done.append((number, threading.get_ident()))

        behind.run(lambda: piece(0))
        assert not done  # the lane goes on while the first piece waits
        going_on.set()
        for number in range(1, 20):
            behind.run(lambda number=number: piece(number))
            assert len(done) >= number
        behind.wait()
        assert [number for number, _ in done] == list(range(20))
        assert threading.get_ident() not in {thread for _, thread in done}

    def test_an_error_stops_the_lanes_at_once_and_is_raised_once_with_its_traceback(self) -> None:
        stop = StopSignal()
        behind = Behind(stop)

        def the_one_that_fails() -> None:
            raise LookupError("disk")

        behind.run(the_one_that_fails)
        with pytest.raises(Stopped):  # noqa: PT012 - the lane as it goes on
            while True:
                stop.check()
                time.sleep(0.001)
        with pytest.raises(LookupError, match="disk") as caught:
            behind.run(lambda: pytest.fail("after an error"))
        assert "the_one_that_fails" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        behind.wait()
