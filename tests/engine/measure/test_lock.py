"""The share of time for which the interpreter's lock is held, on loads whose share is known."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

import pytest

from gen_engine.engine.measure.lock import LockSampler
from gen_engine.engine.native import core, instrument

SECONDS = 0.3


def python() -> None:
    for _ in range(10_000):
        pass


def unlocked(data: bytes = bytes(1 << 20)) -> None:
    hashlib.sha256(data)


def both() -> None:
    """Hold the lock for as long as it is released, by this thread's own clock."""
    began = time.perf_counter()
    unlocked()
    end = 2 * time.perf_counter() - began
    while time.perf_counter() < end:
        pass


def measure(load: Callable[[], object], threads: int = 1) -> float:
    end = time.perf_counter() + SECONDS

    def run() -> None:
        while time.perf_counter() < end:
            load()

    running = [threading.Thread(target=run) for _ in range(threads)]
    with LockSampler() as sampler:
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert sampler.arrivals > 10
    assert sampler.share is not None
    return sampler.share


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("load", "low", "high"),
    [(python, 0.9, 1), (unlocked, 0, 0.1), (both, 0.2, 0.8)],
    ids=["python", "unlocked", "both"],
)
def test_known_loads(load: Callable[[], object], low: float, high: float, threads: int) -> None:
    high = 1 if threads > 1 and load is both else high
    shares = []
    while len(shares) < 5:  # other processes that take the processors distort a measurement, not all of five
        shares.append(measure(load, threads))
        if low <= shares[-1] <= high:
            return
    raise AssertionError(shares)


def test_arrivals_that_are_missed_during_a_wait_count() -> None:
    """Held for 9 ms of every 10 ms: most arrivals find it free, since there is none during a wait."""
    waits, slept = iter([8_000_000, 100, 100] * 10_000), []

    def lock_wait(pause_ns: int) -> int:
        slept.append(pause_ns)
        time.sleep(0.0001)
        return next(waits)

    with LockSampler(lock_wait) as sampler:
        while len(slept) < 90:
            time.sleep(0.001)
    assert sampler.share == pytest.approx(9 / 11, abs=0.02)
    assert sum(slept) / len(slept) == pytest.approx(1e6, rel=0.5)


def test_nothing_is_measured_without_the_compiled_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_engine.engine.measure.lock.instrument", lambda: None)
    with LockSampler() as sampler:
        pass
    assert sampler.share is None


def test_the_instrument_is_there_although_the_core_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_engine.engine.native._switched_off", True)
    assert core() is None
    assert instrument() is not None


@pytest.mark.parametrize(("pause", "error"), [(-1, ValueError), (2**70, OverflowError), ("1", TypeError)])
def test_pauses_that_are_refused(pause: object, error: type[Exception]) -> None:
    loaded = instrument()
    assert loaded is not None
    with pytest.raises(error):
        loaded.lock_wait(pause)  # type: ignore[arg-type]
