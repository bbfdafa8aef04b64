"""The guard on a machine that is made up: its clock, its speeds, and what else it does."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from gen_engine.engine.measure import machine
from gen_engine.engine.measure.guard import (
    KEPT,
    REGRESSED,
    TARGET,
    UNDECIDED,
    Baseline,
    Decision,
    Round,
    Rounds,
    Series,
    _verdict,
    guard,
)
from gen_engine.engine.measure.machine import Others, busy_seconds
from gen_engine.engine.measure.report import sentence
from gen_engine.engine.measure.rounds import Spent
from gen_engine.engine.measure.statistics import LOOKS, Interval, estimate


class FakeMachine:
    """Rounds of a target and its peer, a second each, with noise and other work as told."""

    def __init__(
        self, *, processor: float = 1.0, elapsed: float = 1.0, noise: float = 0.02, others: float = 0.0, seed: int = 0
    ) -> None:
        self.now = 0.0
        self._rng = np.random.default_rng(seed)
        self._ratios, self._noise, self._others = (processor, elapsed), noise, others

    def take(self) -> Round:
        self.now += 1.0
        processor, elapsed = (
            {"peer": 5.0, TARGET: 5.0 + math.log(ratio) + float(self._noise * self._rng.standard_normal())}
            for ratio in self._ratios
        )
        return Round(processor=processor, elapsed=elapsed, others=self._others)


def run(fake: FakeMachine, *, threshold: float = 0.95, limit_s: float = 1e9, **how: object) -> Decision:
    return guard(
        fake.take, Series(weights={"peer": 1.0}), threshold=threshold, limit_s=limit_s, clock=lambda: fake.now, **how
    )


def test_equal_ones() -> None:
    found = run(FakeMachine())
    assert found.verdict == KEPT
    assert found.rounds == found.quiet_rounds == found.seconds == LOOKS[0]
    assert found.processor.low < 1 < found.processor.high


def test_a_slowdown() -> None:
    found = run(FakeMachine(processor=0.91, elapsed=0.91))
    assert found.verdict == REGRESSED
    assert found.processor.high < 0.95


def test_a_lasting_difference_of_the_wall_clock_alone_is_no_regression_while_others_work() -> None:
    """The system may leave one of the two on the busy core for as long as it likes."""
    found = run(FakeMachine(elapsed=0.7, others=0.5))
    assert (found.verdict, found.elapsed, found.quiet_rounds) == (KEPT, None, 0)
    assert found.others == pytest.approx(0.5)


def test_waiting_is_a_regression_on_a_quiet_machine() -> None:
    found = run(FakeMachine(elapsed=0.8))
    assert found.verdict == REGRESSED
    assert found.processor.low > 0.95
    assert found.elapsed is not None
    assert found.elapsed.high < 0.95


def test_more_rounds_while_the_threshold_is_within_the_interval() -> None:
    found = run(FakeMachine(noise=0.15))
    assert found.verdict == KEPT
    assert found.rounds in LOOKS[2:]


def test_undecided_when_the_time_is_over() -> None:
    found = run(FakeMachine(processor=0.95, elapsed=0.95, noise=0.1), limit_s=40)
    assert found.verdict == UNDECIDED
    assert found.rounds == found.seconds == 40
    assert found.processor.low < 0.95 < found.processor.high


def test_a_first_look_is_always_taken() -> None:
    assert run(FakeMachine(), limit_s=1).rounds == LOOKS[0]


def test_it_ends_when_all_looks_are_spent() -> None:
    found = run(FakeMachine(processor=0.95, elapsed=0.95, noise=0.4))
    assert (found.verdict, found.rounds) == (UNDECIDED, LOOKS[-1])


def test_a_gpu_is_judged_by_the_wall_clock() -> None:
    found = run(FakeMachine(processor=1.0, elapsed=0.8, others=0.5), wall_only=True)
    assert found.verdict == REGRESSED


def test_a_baseline_brings_its_own_doubt() -> None:
    sharp = FakeMachine(noise=0.01)
    scores = [one.processor[TARGET] - one.processor["peer"] for one in (sharp.take() for _ in range(50))]
    before = estimate(scores)
    same = run(FakeMachine(seed=5), baseline=Baseline(processor=before, elapsed=None, drift=0.015))
    assert (same.verdict, same.elapsed) == (KEPT, None)
    slower = FakeMachine(processor=0.94, elapsed=0.94, seed=6)
    assert run(slower, baseline=Baseline(processor=before, elapsed=None, drift=0.015), limit_s=99).verdict == UNDECIDED
    assert run(slower, baseline=Baseline(processor=before, elapsed=None, drift=0.0)).verdict == REGRESSED


class Counted:
    """Takes turns, and notes whose it was."""

    def __init__(self, name: str, log: list[str], spend: Callable[[], Spent]) -> None:
        self._name, self._log, self.spend_ = name, log, spend

    def warm_up(self) -> None:
        self._log.append(f"warm {self._name}")

    def spend(self) -> Spent:
        self._log.append(self._name)
        return self.spend_()

    def close(self) -> None: ...


def test_everybody_follows_everybody_equally_often() -> None:
    log: list[str] = []
    two = Spent(work=8.0, elapsed=4.0, processor=2.0)
    rounds = Rounds({name: Counted(name, log, lambda: two) for name in "AB"}, Others())
    found = rounds.take()
    assert log == ["warm A", "warm B", *"ABBABAAB"]
    assert found.processor == pytest.approx({"A": math.log(4), "B": math.log(4)})
    assert found.elapsed == pytest.approx({"A": math.log(2), "B": math.log(2)})


def test_a_drift_cancels_within_a_round() -> None:
    log: list[str] = []
    speeds = iter(np.exp(0.01 * np.arange(8)))  # each turn is a per cent faster than the one before
    rounds = Rounds(
        {n: Counted(n, log, lambda: Spent(work=next(speeds), elapsed=1, processor=1)) for n in "AB"}, Others()
    )
    found = rounds.take()
    assert found.processor["A"] == pytest.approx(found.processor["B"])


STAT = """cpu  99999 0 0 0 0 0 0 0 0 0
cpu0 100 20 30 5000 10 1 2 7 50 0
cpu1 300 0 0 5000 0 0 0 0 0 0
cpu12 7000 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""


def test_busy_seconds_of_our_processors() -> None:
    """User, nice, system, interrupts and what the hypervisor took; neither idle nor guests, which are in user."""
    assert busy_seconds(STAT.splitlines(), {0, 1}) == pytest.approx((160 + 300) / 100)


def test_the_share_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([(0.0, 0.0, 100.0), (10.0, 4.0, 109.0)])
    monkeypatch.setattr(machine.Others, "_now", lambda self: next(now))
    others = Others()
    cpus = len(others._cpus) or 1
    assert others.share() == pytest.approx(min((9 - 4) / (10 * cpus), 1.0))


def decided(
    processor: tuple[float, float, float], elapsed: tuple[float, float, float] | None, others: float
) -> Decision:
    intervals = [Interval(low=low, ratio=ratio, high=high) for low, ratio, high in filter(None, (processor, elapsed))]
    return Decision(
        verdict=_verdict(intervals[0], intervals[1] if elapsed else None, 0.95),
        threshold=0.95,
        processor=intervals[0],
        elapsed=intervals[1] if elapsed else None,
        rounds=48,
        quiet_rounds=12,
        seconds=60.0,
        others=others,
    )


WAITS, EQUAL, WIDE = (0.75, 0.8, 0.85), (0.98, 1.0, 1.02), (0.8, 0.95, 1.1)


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (
            decided(EQUAL, None, 0.5),
            "no regression: speed ratio 1.000 [0.980, 1.020] by processor time, surely above 0.95 ×",
        ),
        (
            decided(WAITS, None, 0.5),
            "regression: speed ratio 0.800 [0.750, 0.850] by processor time, surely below 0.95 ×",
        ),
        (
            decided(EQUAL, WAITS, 0.0),
            "regression: 0.800 [0.750, 0.850] by the wall clock while nobody else used the mach",
        ),
        (
            decided(EQUAL, WIDE, 0.0),
            "above 0.95 ×, but 0.950 [0.800, 1.100] by the wall clock; run it when the machine is f",
        ),
        (
            decided(WIDE, None, 0.6),
            "0.95 × is within it; other work took 60% of the processors: run it when they are free",
        ),
        (decided(WIDE, EQUAL, 0.0), "0.95 × is within it; allow more than 60 s with --time-limit, or compare directly"),
    ],
)
def test_what_is_said_of_a_decision(decision: Decision, said: str) -> None:
    assert said in sentence(decision)
