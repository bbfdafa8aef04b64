"""Successive halving (Jamieson & Talwalkar 2016): many candidates are timed briefly, the fastest of them longer.

Candidates are timed in rounds that take turns with each other and with the generator as it was exported, so that a
machine that slows down for a while slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

from gen_engine.engine.errors import BackendError
from gen_engine.engine.measure.rounds import Runner, relative_speeds
from gen_engine.export.compile.candidates import Candidate

NOT_REACHED = "the budget did not reach it"
SLOWER = "slower"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of the ladder: some candidates enter, all that are open are timed, and the fastest stay open."""

    entrants: Iterable[Candidate]
    closes: float
    """Share of the race's seconds after which no more of them enter, 0 to 1. One always does."""

    seconds: float
    """How long to time."""

    keep: int


def successive_halving(race: Race, rungs: Iterable[Rung]) -> None:
    """Climb the rungs. A later rung's entrants may depend on who leads: ``rungs`` is consumed one at a time."""
    for rung in rungs:
        for candidate in rung.entrants:
            race.enter(candidate, closes=rung.closes)
        race.time(rung.seconds)
        race.close_all_but(rung.keep)


class Race:
    """Candidates that are open, and all that ever entered.

    Few are open at a time: each holds its weights once more, packed for its kernels.

    Args:
        peer: what every speedup is over. Closed with the race.
        open_runner: opens a candidate in its runtime.
        seconds: how long the race may take; what enters later than its rung allows is not opened.
        on_progress: called with a sentence at a time.
    """

    def __init__(
        self,
        peer: Runner,
        open_runner: Callable[[Candidate], Runner],
        *,
        seconds: float,
        on_progress: Callable[[str], None],
    ) -> None:
        self.table: list[Candidate] = []
        """Every candidate, in the order in which they entered."""

        self._peer, self._open_runner, self._on_progress = peer, open_runner, on_progress
        self._began, self._seconds = time.monotonic(), seconds
        self._open: dict[int, Runner] = {}

    def __enter__(self) -> Race:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for runner in (self._peer, *self._open.values()):
            runner.close()

    def leaders(self) -> list[Candidate]:
        """Return the candidates that are open, the fastest first."""
        return sorted((c for c in self.table if id(c) in self._open), key=lambda c: -(c.speedup or 0.0))

    def enter(self, candidate: Candidate, *, closes: float) -> None:
        """Put a candidate on the table, and open it unless that share of the time is over."""
        self.table.append(candidate)
        if time.monotonic() - self._began > closes * self._seconds and self._open:
            candidate.left = NOT_REACHED
            return
        self._on_progress(f"opening {candidate}")
        try:
            runner = self._open_runner(candidate)
            runner.warm_up()
        except BackendError as error:
            candidate.left = str(error)
        else:
            self._open[id(candidate)] = runner

    def time(self, seconds: float) -> None:
        """Time all that are open, in turns."""
        if not (candidates := self.leaders()):
            return
        self._on_progress(f"timing {len(candidates)} candidates for {seconds:.0f} s")
        speeds = relative_speeds(self._peer, [self._open[id(c)] for c in candidates], seconds=seconds)
        for candidate, speed in zip(candidates, speeds, strict=True):
            candidate.speedup = speed

    def close_all_but(self, fastest: int) -> None:
        """Close all but so many of the fastest."""
        for candidate in self.leaders()[fastest:]:
            candidate.left = SLOWER
            self._open.pop(id(candidate)).close()
