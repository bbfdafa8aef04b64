"""The sequential test on a simulated machine: its clock, its speeds and its background load."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from gen_engine.engine.measure import machine
from gen_engine.engine.measure.machine import BackgroundLoad, busy_seconds
from gen_engine.engine.measure.report import sentence
from gen_engine.engine.measure.rounds import Timing
from gen_engine.engine.measure.sequential_test import (
    PASSED,
    PEER,
    REGRESSED,
    TARGET,
    UNDECIDED,
    Baseline,
    Comparison,
    Round,
    Rounds,
    Series,
    _outcome,
    sequential_test,
)
from gen_engine.engine.measure.statistics import LOOKS, Interval, estimate


class FakeMachine:
    """Rounds of a target and its peer, one second each, with given noise and background load."""

    def __init__(
        self, *, processor: float = 1.0, elapsed: float = 1.0, noise: float = 0.02, load: float = 0.0, seed: int = 0
    ) -> None:
        self.now = 0.0
        self._rng = np.random.default_rng(seed)
        self._ratios, self._noise, self._load = (processor, elapsed), noise, load

    def take(self) -> Round:
        self.now += 1.0
        processor, elapsed = (
            {PEER: 5.0, TARGET: 5.0 + math.log(ratio) + float(self._noise * self._rng.standard_normal())}
            for ratio in self._ratios
        )
        return Round(processor=processor, elapsed=elapsed, background_load=self._load)


def run(fake: FakeMachine, *, threshold: float = 0.95, limit_s: float = 1e9, **options: object) -> Comparison:
    series = Series(weights={PEER: 1.0})
    return sequential_test(fake.take, series, threshold=threshold, limit_s=limit_s, clock=lambda: fake.now, **options)


def test_equal_speeds_pass() -> None:
    comparison = run(FakeMachine())
    assert comparison.outcome == PASSED
    assert comparison.rounds == comparison.quiet_rounds == comparison.seconds == LOOKS[0]
    assert comparison.processor.low < 1 < comparison.processor.high


def test_a_slowdown_is_a_regression() -> None:
    comparison = run(FakeMachine(processor=0.91, elapsed=0.91))
    assert comparison.outcome == REGRESSED
    assert comparison.processor.high < 0.95


def test_a_lasting_wall_clock_difference_alone_is_not_a_regression_under_background_load() -> None:
    """The scheduler may leave one of the two on the busy core for any length of time."""
    comparison = run(FakeMachine(elapsed=0.7, load=0.5))
    assert (comparison.outcome, comparison.elapsed, comparison.quiet_rounds) == (PASSED, None, 0)
    assert comparison.background_load == pytest.approx(0.5)


def test_waiting_is_a_regression_on_a_quiet_machine() -> None:
    comparison = run(FakeMachine(elapsed=0.8))
    assert comparison.outcome == REGRESSED
    assert comparison.processor.low > 0.95
    assert comparison.elapsed is not None
    assert comparison.elapsed.high < 0.95


def test_it_continues_while_the_threshold_is_within_the_interval() -> None:
    comparison = run(FakeMachine(noise=0.15))
    assert comparison.outcome == PASSED
    assert comparison.rounds in LOOKS[2:]


def test_undecided_when_the_time_is_up() -> None:
    comparison = run(FakeMachine(processor=0.95, elapsed=0.95, noise=0.1), limit_s=40)
    assert comparison.outcome == UNDECIDED
    assert comparison.rounds == comparison.seconds == 40
    assert comparison.processor.low < 0.95 < comparison.processor.high


def test_the_first_look_is_always_taken() -> None:
    assert run(FakeMachine(), limit_s=1).rounds == LOOKS[0]


def test_it_ends_after_the_last_look() -> None:
    comparison = run(FakeMachine(processor=0.95, elapsed=0.95, noise=0.4))
    assert (comparison.outcome, comparison.rounds) == (UNDECIDED, LOOKS[-1])


def test_a_gpu_is_compared_by_wall_clock_time() -> None:
    comparison = run(FakeMachine(processor=1.0, elapsed=0.8, load=0.5), wall_only=True)
    assert comparison.outcome == REGRESSED


def test_a_baseline_adds_its_own_uncertainty() -> None:
    precise = FakeMachine(noise=0.01)
    scores = [one.processor[TARGET] - one.processor[PEER] for one in (precise.take() for _ in range(50))]
    before = estimate(scores)
    same = run(FakeMachine(seed=5), baseline=Baseline(processor=before, elapsed=None, drift=0.015))
    assert (same.outcome, same.elapsed) == (PASSED, None)
    slower = FakeMachine(processor=0.94, elapsed=0.94, seed=6)
    assert run(slower, baseline=Baseline(processor=before, elapsed=None, drift=0.015), limit_s=99).outcome == UNDECIDED
    assert run(slower, baseline=Baseline(processor=before, elapsed=None, drift=0.0)).outcome == REGRESSED


class LoggedWorkload:
    """Logs its turns."""

    def __init__(self, name: str, log: list[str], timing: Callable[[], Timing]) -> None:
        self._name, self._log, self._timing = name, log, timing

    def warm_up(self) -> None:
        self._log.append(f"warm {self._name}")

    def run_turn(self) -> Timing:
        self._log.append(self._name)
        return self._timing()

    def close(self) -> None: ...


def test_every_workload_follows_every_workload_equally_often() -> None:
    log: list[str] = []
    timing = Timing(work=8.0, elapsed=4.0, processor=2.0)
    rounds = Rounds({name: LoggedWorkload(name, log, lambda: timing) for name in "AB"}, BackgroundLoad())
    taken = rounds.take()
    assert log == ["warm A", "warm B", *"ABBABAAB"]
    assert taken.processor == pytest.approx({"A": math.log(4), "B": math.log(4)})
    assert taken.elapsed == pytest.approx({"A": math.log(2), "B": math.log(2)})


def test_a_drift_cancels_within_a_round() -> None:
    log: list[str] = []
    speeds = iter(np.exp(0.01 * np.arange(8)))  # each turn is 1 % faster than the one before

    def timing() -> Timing:
        return Timing(work=next(speeds), elapsed=1, processor=1)

    taken = Rounds({name: LoggedWorkload(name, log, timing) for name in "AB"}, BackgroundLoad()).take()
    assert taken.processor["A"] == pytest.approx(taken.processor["B"])


STAT = """cpu  99999 0 0 0 0 0 0 0 0 0
cpu0 100 20 30 5000 10 1 2 7 50 0
cpu1 300 0 0 5000 0 0 0 0 0 0
cpu12 7000 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""


def test_busy_seconds_of_our_processors() -> None:
    """User, nice, system, interrupts and stolen time; neither idle time nor guests, which user time includes."""
    assert busy_seconds(STAT.splitlines(), {0, 1}) == pytest.approx((160 + 300) / 100)


def test_the_share_of_the_background_load(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([(0.0, 0.0, 100.0), (10.0, 4.0, 109.0)])
    monkeypatch.setattr(machine.BackgroundLoad, "_now", lambda self: next(now))
    load = BackgroundLoad()
    cpus = len(load._cpus) or 1
    assert load.share() == pytest.approx(min((9 - 4) / (10 * cpus), 1.0))


def compared(
    processor: tuple[float, float, float], elapsed: tuple[float, float, float] | None, load: float
) -> Comparison:
    intervals = [Interval(low=low, ratio=ratio, high=high) for low, ratio, high in filter(None, (processor, elapsed))]
    return Comparison(
        outcome=_outcome(intervals[0], intervals[1] if elapsed else None, 0.95),
        threshold=0.95,
        processor=intervals[0],
        elapsed=intervals[1] if elapsed else None,
        rounds=48,
        quiet_rounds=12,
        seconds=60.0,
        background_load=load,
    )


WAITS, EQUAL, WIDE = (0.75, 0.8, 0.85), (0.98, 1.0, 1.02), (0.8, 0.95, 1.1)


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (
            compared(EQUAL, None, 0.5),
            "no regression: speed ratio 1.000 [0.980, 1.020] by processor time, certainly above 0.95 ×",
        ),
        (
            compared(WAITS, None, 0.5),
            "regression: speed ratio 0.800 [0.750, 0.850] by processor time, certainly below 0.95 ×",
        ),
        (
            compared(EQUAL, WAITS, 0.0),
            "regression: speed ratio 0.800 [0.750, 0.850] by wall-clock time in quiet rounds, below 0.95 ×",
        ),
        (
            compared(EQUAL, WIDE, 0.0),
            "above 0.95 ×, but 0.950 [0.800, 1.100] by wall-clock time; run it when the machine is idle, or allow",
        ),
        (
            compared(WIDE, None, 0.6),
            "0.95 × is within the interval; other processes took 60% of the processors: run it when they are idle",
        ),
        (
            compared(WIDE, EQUAL, 0.0),
            "0.95 × is within the interval; allow more than 60 s with --time-limit, or compare directly",
        ),
    ],
)
def test_the_sentence_of_a_comparison(comparison: Comparison, expected: str) -> None:
    assert expected in sentence(comparison)
