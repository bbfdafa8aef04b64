"""Sequential test for a performance regression: rounds are taken until the result is certain or the time is up.

The primary metric is work per second of *processor* time. On a shared machine the wall clock mostly measures how the
scheduler places other processes, and such a placement lasts for seconds and looks like a difference. Added computation
costs processor time whatever else runs. Waiting does not, so wall-clock time is compared as well, but only in rounds
during which no other process used the processors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gen_engine.engine.measure.machine import BackgroundLoad
from gen_engine.engine.measure.rounds import Workload
from gen_engine.engine.measure.statistics import LOOKS, Estimate, Interval, alpha_per_look, estimate

PASSED, REGRESSED, UNDECIDED = "passed", "regressed", "undecided"
"""Outcomes of a comparison."""

TARGET, PEER = "target", "peer"
"""Names of what is tested and of what it is compared with, among the workloads of a round."""

MAX_QUIET_LOAD = 0.1
"""In a quiet round other processes took at most this share of the processors."""

WALL_CLOCK_MARGIN = 0.9
"""Wall-clock time need not be known as precisely as processor time: a comparison passes as soon as the wall-clock ratio
is certainly above this share of the threshold. It is a regression only if certainly below the threshold itself."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """The measurements of one round."""

    processor: Mapping[str, float]
    """Workload → logarithm of its work per second of processor time."""

    elapsed: Mapping[str, float]
    """Workload → logarithm of its work per second of wall-clock time."""

    background_load: float
    """Share of the processors that other processes took, 0 to 1."""


@dataclass(kw_only=True)
class Series:
    """The rounds of one run, and their scores: logarithms of the target's speed relative to its peers'."""

    weights: Mapping[str, float]
    """Peer → its exponent in the weighted geometric mean; other workloads are measured and not used."""

    rounds: list[Round] = field(default_factory=list)

    def processor(self) -> list[float]:
        """Return each round's score by processor time."""
        return [self._score(one.processor) for one in self.rounds]

    def elapsed(self, *, quiet_only: bool = True) -> list[float]:
        """Return the scores by wall-clock time, of the quiet rounds or of all."""
        rounds = [one for one in self.rounds if one.background_load <= MAX_QUIET_LOAD or not quiet_only]
        return [self._score(one.elapsed) for one in rounds]

    def _score(self, speeds: Mapping[str, float]) -> float:
        return speeds[TARGET] - sum(weight * speeds[name] for name, weight in self.weights.items())


class Rounds:
    """Takes rounds. One round of two workloads A and B is the turns A B B A B A A B.

    A linear drift of the machine's speed cancels out. So does the order: a turn is some per cent faster after one that
    left the caches warm for it, and here every workload follows every other, and itself, equally often.
    """

    def __init__(self, workloads: Mapping[str, Workload], load: BackgroundLoad) -> None:
        self._workloads, self._load = workloads, load
        forward, backward = list(workloads), list(workloads)[::-1]
        self._order = [*forward, *backward, *backward, *forward]
        for workload in workloads.values():
            workload.warm_up()

    def take(self) -> Round:
        """Take one round."""
        processor, elapsed = dict.fromkeys(self._workloads, 0.0), dict.fromkeys(self._workloads, 0.0)
        self._load.share()
        for name in self._order:
            timing = self._workloads[name].run_turn()
            # The mean of four turns. A clock that has not advanced would give an infinite speed.
            processor[name] += math.log(timing.work / max(timing.processor, 1e-9)) / 4
            elapsed[name] += math.log(timing.work / max(timing.elapsed, 1e-9)) / 4
        return Round(processor=processor, elapsed=elapsed, background_load=self._load.share())


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Scores of an earlier run that a run is compared with."""

    processor: Estimate
    elapsed: Estimate | None

    drift: float
    """Standard error, as a logarithm, of differences between two runs that neither can measure."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a sequential test."""

    outcome: str
    """:data:`PASSED`, :data:`REGRESSED` or :data:`UNDECIDED`."""

    threshold: float

    processor: Interval
    """Ratio of speeds by processor time; below 1 is slower."""

    elapsed: Interval | None
    """Ratio by wall-clock time; None if too few rounds were quiet."""

    rounds: int
    quiet_rounds: int
    seconds: float

    background_load: float
    """Mean share of the processors that other processes took, 0 to 1."""


def sequential_test(
    take: Callable[[], Round],
    series: Series,
    *,
    threshold: float,
    limit_s: float,
    baseline: Baseline | None = None,
    wall_only: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Comparison:
    """Take rounds until the ratio of speeds is certainly below the threshold, certainly above it, or the time is up.

    Args:
        take: takes one round.
        series: the rounds are appended to it.
        threshold: a ratio below this is a regression.
        limit_s: time limit, approximate: the first look is always taken.
        baseline: an earlier run to compare with; None if the peers are the comparison.
        wall_only: compare wall-clock time alone, in all rounds: on a GPU, processor time is not meaningful.
        clock: seconds, for the limit.
    """
    began = clock()
    comparison: Comparison | None = None
    for look in LOOKS:
        while len(series.rounds) < look:
            series.rounds.append(take())
            if clock() - began >= limit_s and len(series.rounds) >= LOOKS[0]:
                break
        time_is_up = clock() - began >= limit_s
        comparison = _compare(series, threshold, baseline, wall_only, clock() - began)
        if comparison.outcome != UNDECIDED or time_is_up:
            break
    assert comparison is not None
    return comparison


def _compare(
    series: Series, threshold: float, baseline: Baseline | None, wall_only: bool, seconds: float
) -> Comparison:
    elapsed_scores = series.elapsed(quiet_only=not wall_only)
    processor_scores = elapsed_scores if wall_only else series.processor()
    drift = 0.0 if baseline is None else baseline.drift
    processor = _interval(processor_scores, None if baseline is None else baseline.processor, drift)
    assert processor is not None
    elapsed = None
    if baseline is None or baseline.elapsed is not None:
        elapsed = _interval(elapsed_scores, None if baseline is None else baseline.elapsed, drift)
    return Comparison(
        outcome=_outcome(processor, elapsed, threshold),
        threshold=threshold,
        processor=processor,
        elapsed=elapsed,
        rounds=len(series.rounds),
        quiet_rounds=len(series.elapsed()),
        seconds=seconds,
        background_load=sum(one.background_load for one in series.rounds) / len(series.rounds),
    )


def _outcome(processor: Interval, elapsed: Interval | None, threshold: float) -> str:
    if processor.high < threshold or (elapsed is not None and elapsed.high < threshold):
        return REGRESSED
    if processor.low > threshold and (elapsed is None or elapsed.low > WALL_CLOCK_MARGIN * threshold):
        return PASSED
    return UNDECIDED


def _interval(scores: Sequence[float], before: Estimate | None, drift: float) -> Interval | None:
    """Return the ratio's interval at one look. There are two metrics, so each spends half of the look's error rate."""
    if len(scores) < LOOKS[0]:
        return None
    score = estimate(scores)
    if before is not None:
        score = score.minus(before)
    return score.interval(alpha_per_look() / 2, drift=drift)
