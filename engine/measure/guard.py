"""Has something become slower? Rounds are taken until the answer is sure, or the time is over.

What is guarded first is work per second of *processor* time: on a shared machine the wall clock mostly measures how the
system places other work, which stays where it is for seconds at a time and looks like a difference. An added
computation costs processor time whoever else runs. Waiting does not, so the wall clock is judged as well, but only by
rounds in which nobody else used the processors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gen_engine.engine.measure.machine import Others
from gen_engine.engine.measure.rounds import Turns
from gen_engine.engine.measure.statistics import LOOKS, Estimate, Interval, estimate, wrong_at_a_look

KEPT, REGRESSED, UNDECIDED = "kept", "regressed", "undecided"
"""What a guard can say."""

TARGET = "target"
"""The name of what is guarded, among those that take part in rounds."""

QUIET = 0.1
"""A round is of a quiet machine if others took no larger share of the processors."""

WAITING = 0.9
"""The wall clock need not be known as well as processor time: that nothing regressed is said as soon as its ratio is
surely above this share of the threshold. One that is surely below the threshold itself is a regression."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round measured."""

    processor: Mapping[str, float]
    """Name → logarithm of its work a second of processor time."""

    elapsed: Mapping[str, float]
    """The same by the wall clock."""

    others: float
    """Share of the processors that other work took, 0 to 1."""


@dataclass(kw_only=True)
class Series:
    """The rounds of one run, as scores: logarithms of the target's speed over a mix of its peers'."""

    weights: Mapping[str, float]
    """Peer → its exponent in the mix; those that are not named are measured and not used."""

    rounds: list[Round] = field(default_factory=list)

    def processor(self) -> list[float]:
        """Return each round's score by processor time."""
        return [self._score(one.processor) for one in self.rounds]

    def elapsed(self) -> list[float]:
        """Return the scores by the wall clock of those rounds in which the machine was quiet."""
        return [self._score(one.elapsed) for one in self.rounds if one.others <= QUIET]

    def _score(self, speeds: Mapping[str, float]) -> float:
        return speeds[TARGET] - sum(weight * speeds[name] for name, weight in self.weights.items())


class Rounds:
    """Takes rounds: of two members A and B, the turns A B B A B A A B.

    A drift of the machine's speed cancels, and so does the order: a turn costs some per cent less after one that has
    left the caches to its liking, and here everybody follows everybody, itself too, equally often.
    """

    def __init__(self, members: Mapping[str, Turns], others: Others) -> None:
        self._members, self._others = members, others
        forward, back = list(members), list(members)[::-1]
        self._order = [*forward, *back, *back, *forward]
        for member in members.values():
            member.warm_up()

    def take(self) -> Round:
        """Take one round."""
        processor, elapsed = dict.fromkeys(self._members, 0.0), dict.fromkeys(self._members, 0.0)
        self._others.share()
        for name in self._order:
            spent = self._members[name].spend()
            # A quarter of each of the four turns. A clock that has not moved would be an infinite speed.
            processor[name] += math.log(spent.work / max(spent.processor, 1e-9)) / 4
            elapsed[name] += math.log(spent.work / max(spent.elapsed, 1e-9)) / 4
        return Round(processor=processor, elapsed=elapsed, others=self._others.share())


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a run is compared with: nothing (the peers are the comparison), or an earlier run's scores."""

    processor: Estimate
    elapsed: Estimate | None

    drift: float
    """Standard error of what differs between two runs for no reason that either can see, as a logarithm."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a guard found."""

    verdict: str
    """:data:`KEPT`, :data:`REGRESSED` or :data:`UNDECIDED`."""

    threshold: float

    processor: Interval
    """The ratio of speeds by processor time: below 1 is slower."""

    elapsed: Interval | None
    """By the wall clock; None if the machine was never quiet for long enough."""

    rounds: int
    quiet_rounds: int
    seconds: float

    others: float
    """Share of the processors that other work took, on average."""


def guard(
    take: Callable[[], Round],
    series: Series,
    *,
    threshold: float,
    limit_s: float,
    baseline: Baseline | None = None,
    wall_only: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Decision:
    """Take rounds until the ratio of speeds is surely below the threshold, surely not, or the time is over.

    Args:
        take: takes one round.
        series: what its rounds are added to.
        threshold: below this ratio it is a regression.
        limit_s: about when to give up; a look is always taken.
        baseline: an earlier run.
        wall_only: judge by the wall clock alone and by all rounds: on a GPU, processor time says nothing.
        clock: seconds, for the limit.
    """
    began = clock()
    decision: Decision | None = None
    for look in LOOKS:
        while len(series.rounds) < look:
            series.rounds.append(take())
            if clock() - began >= limit_s and len(series.rounds) >= LOOKS[0]:
                break
        over = clock() - began >= limit_s
        decision = _look(series, threshold, baseline, wall_only, clock() - began)
        if decision.verdict != UNDECIDED or over:
            break
    assert decision is not None
    return decision


def _look(series: Series, threshold: float, baseline: Baseline | None, wall_only: bool, seconds: float) -> Decision:
    elapsed_scores = [series._score(one.elapsed) for one in series.rounds] if wall_only else series.elapsed()
    processor_scores = elapsed_scores if wall_only else series.processor()
    drift = 0.0 if baseline is None else baseline.drift
    processor = _interval(processor_scores, None if baseline is None else baseline.processor, drift)
    assert processor is not None
    elapsed = None
    if baseline is None or baseline.elapsed is not None:
        elapsed = _interval(elapsed_scores, None if baseline is None else baseline.elapsed, drift)
    return Decision(
        verdict=_verdict(processor, elapsed, threshold),
        threshold=threshold,
        processor=processor,
        elapsed=elapsed,
        rounds=len(series.rounds),
        quiet_rounds=len(series.elapsed()),
        seconds=seconds,
        others=sum(one.others for one in series.rounds) / len(series.rounds),
    )


def _verdict(processor: Interval, elapsed: Interval | None, threshold: float) -> str:
    if processor.high < threshold or (elapsed is not None and elapsed.high < threshold):
        return REGRESSED
    if processor.low > threshold and (elapsed is None or elapsed.low > WAITING * threshold):
        return KEPT
    return UNDECIDED


def _interval(scores: Sequence[float], before: Estimate | None, drift: float) -> Interval | None:
    """Return the ratio's interval at one look; two clocks are judged, and each may spend half."""
    if len(scores) < LOOKS[0]:
        return None
    found = estimate(scores)
    if before is not None:
        found = found.minus(before)
    return found.interval(wrong_at_a_look() / 2, drift=drift)
