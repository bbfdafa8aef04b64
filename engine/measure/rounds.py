"""Turns: things run for a moment each, one after the other, on a machine whose speed changes from minute to minute.

Each way to run a generator has its turn, round after round. Within a round the machine is about the same for all of
them, so a round gives one ratio of speeds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gen_engine.engine.backends.contract import Backend, Lane
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.latents import Latents

_TURN_S = 0.06
"""One turn of a runner: long beside a timer's and a thread's noise, short beside the machine's changes."""

_LEAST_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one turn took."""

    work: float
    """How much was done, in units of the one whose turn it was: samples of a generator."""

    elapsed: float
    """Seconds by the wall clock."""

    processor: float
    """Seconds of processors, over all threads of this process."""


class Turns(Protocol):
    """Something that can be timed a moment at a time."""

    def warm_up(self) -> None:
        """Run a little, and find how much of it makes a turn. Does nothing the second time."""
        ...

    def spend(self) -> Spent:
        """Run one turn."""
        ...

    def close(self) -> None:
        """Release what it holds. May be called again; nothing else may."""
        ...


def timed(run: Callable[[], object], work: float) -> Spent:
    """Run something that does so much work, and return what it took."""
    processor, began = time.process_time(), time.perf_counter()
    run()
    elapsed = time.perf_counter() - began
    return Spent(work=work, elapsed=elapsed, processor=time.process_time() - processor)


class Runner:
    """A generator opened in a backend, with the lanes that a job would have.

    Args:
        backend: where it runs.
        bundle: what its latents and labels are.
        lanes: how many lanes run in parallel.
        turn_s: about how long a turn takes, and no less than a batch.
        as_job: in a turn, also draw the latents of every batch and digest its samples, as a job does on the same
            processors. What that takes of a batch's time, and of the caches, is not the same for all batches.
    """

    def __init__(
        self, backend: Backend, bundle: Bundle, *, lanes: int, turn_s: float = _TURN_S, as_job: bool = False
    ) -> None:
        self.backend, self._bundle, self._turn_s, self._as_job = backend, bundle, turn_s, as_job
        self._lanes = [backend.lane() for _ in range(lanes)]
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="rounds")
        self._latents = [self._new_latents(seed=0) for _ in range(lanes)]  # a lane's thread has its own
        self._inputs = self._feeds(self._latents[0], 0)
        self._turns = 0
        """Batches a lane in one turn; 0 before it is warm."""

    def warm_up(self) -> None:
        """Run a few batches, and find how many of them make a turn. Does nothing the second time."""
        if self._turns:
            return
        self._run(1)
        # The shortest of three: a stall would make the turns of a whole run too short.
        one = min(timed(lambda: self._run(1), 1).elapsed for _ in range(3))
        self._turns = max(1, round(self._turn_s / one))

    def spend(self) -> Spent:
        """Run one turn; its work is in samples."""
        return timed(lambda: self._run(self._turns), len(self._lanes) * self._turns * self.backend.batch)

    def turn(self) -> float:
        """Run one turn; return samples a second."""
        spent = self.spend()
        return spent.work / spent.elapsed

    def call(self) -> None:
        """Run one batch on the first lane and on the calling thread."""
        lane = self._lanes[0]
        lane.submit(*self._inputs)
        lane.collect()

    def draw(self, *, seed: int, samples: int) -> NDArray[Any]:
        """Return samples 0 to ``samples`` - 1 of a sequence, as the sampler makes them: the first output's values."""
        starts = range(0, samples, self.backend.batch)

        def work(lane: Lane, share: Sequence[int]) -> list[NDArray[Any]]:
            latents = self._new_latents(seed=seed)
            made = []
            for start in share:
                lane.submit(*self._feeds(latents, start))
                made.append(lane.collect()[self._bundle.output.name].copy())
            return made

        lanes = len(self._lanes)
        futures = [self._pool.submit(work, lane, starts[i::lanes]) for i, lane in enumerate(self._lanes)]
        shares = [future.result() for future in futures]
        ordered = [shares[i % lanes][i // lanes] for i in range(len(starts))]
        return np.concatenate(ordered)[:samples]

    def close(self) -> None:
        """Close the lanes. May be called again; nothing else may."""
        self._pool.shutdown()
        for lane in self._lanes:
            lane.close()

    def _new_latents(self, *, seed: int) -> Latents:
        latent = self._bundle.latent
        return Latents(dim=latent.dim, distribution=latent.distribution, seed=seed)

    def _feeds(self, latents: Latents, start: int) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        batch, labels = self.backend.batch, self._bundle.labels
        numbers = None if labels is None else np.arange(start, start + batch) % len(labels.names)
        return latents.draw(start, start + batch), numbers

    def _run(self, batches: int) -> None:
        pairs = zip(self._lanes, self._latents, strict=True)
        for future in [self._pool.submit(self._work, *pair, batches) for pair in pairs]:
            future.result()

    def _work(self, lane: Lane, latents: Latents, batches: int) -> None:
        digest = blake3()
        for number in range(batches + lane.depth):
            if number >= lane.depth:
                made = lane.collect()
                if self._as_job:
                    for values in made.values():
                        digest.update(memoryview(np.ascontiguousarray(values)).cast("B"))
            if number < batches:
                lane.submit(*(self._feeds(latents, number * self.backend.batch) if self._as_job else self._inputs))


def relative_speeds(peer: Runner, runners: Sequence[Runner], *, seconds: float) -> list[float]:
    """Return each runner's samples a second over the peer's: the median of its rounds' ratios.

    Takes about ``seconds``, and at least three rounds.
    """
    for runner in (peer, *runners):
        runner.warm_up()
    ratios: list[list[float]] = [[] for _ in runners]
    end = time.perf_counter() + seconds
    while len(ratios[0]) < _LEAST_ROUNDS or time.perf_counter() < end:
        base = peer.turn()
        for found, runner in zip(ratios, runners, strict=True):
            found.append(runner.turn() / base)
    return [statistics.median(found) for found in ratios]
