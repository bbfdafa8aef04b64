"""Interleaved timing on a machine whose speed changes from minute to minute.

Workloads take turns of a moment each, round after round. Within a round the machine is about equally fast for all of
them, so each round gives one ratio of their speeds.
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

from gen_engine.engine.backends.contract import Backend, ExecutionStream
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.latents import Latents

_TURN_S = 0.06
"""Duration of a runner's turn: long compared with the noise of timers and threads, short compared with the machine's
changes of speed."""

_MIN_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The work and the time of one turn."""

    work: float
    """In the workload's own unit: samples of a generator, pieces of a calibration workload."""

    elapsed: float
    """Wall-clock seconds."""

    processor: float
    """Processor seconds, over all threads of this process."""


class Workload(Protocol):
    """Something that is timed a turn at a time."""

    def warm_up(self) -> None:
        """Run a little, and determine how much work makes a turn. Has no effect the second time."""
        ...

    def run_turn(self) -> Timing:
        """Run one turn."""
        ...

    def close(self) -> None:
        """Release threads and memory. May be called again; after it, nothing else may."""
        ...


def timed(run: Callable[[], object], work: float) -> Timing:
    """Call ``run``, which does that much work, and return its timing."""
    processor, began = time.process_time(), time.perf_counter()
    run()
    elapsed = time.perf_counter() - began
    return Timing(work=work, elapsed=elapsed, processor=time.process_time() - processor)


class Runner:
    """A generator opened in a backend, with as many lanes as a job would have.

    Args:
        backend: runs it.
        bundle: specifies its latents and labels.
        lanes: lanes that run in parallel, one thread each.
        turn_s: approximate duration of a turn in seconds; a turn is at least one batch.
        as_job: in a turn, also draw the latents of each batch and hash its samples, as a job does on the same
            processors. Their cost, in time and in cache, is not the same for all batch sizes.
    """

    def __init__(
        self, backend: Backend, bundle: Bundle, *, lanes: int, turn_s: float = _TURN_S, as_job: bool = False
    ) -> None:
        self.backend, self._bundle, self._turn_s, self._as_job = backend, bundle, turn_s, as_job
        self._lanes = [backend.open_stream() for _ in range(lanes)]
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="rounds")
        self._latents = [self._new_latents(seed=0) for _ in range(lanes)]  # not shared between threads
        self._inputs = self._feeds(self._latents[0], 0)
        self._batches_per_turn = 0
        """Of each lane; 0 before the warm-up."""

    def warm_up(self) -> None:
        """Run a few batches, and determine how many of them make a turn. Has no effect the second time."""
        if self._batches_per_turn:
            return
        self._run(1)
        # The shortest of three: after a stall, the turns of the whole run would be too short.
        one = min(timed(lambda: self._run(1), 1).elapsed for _ in range(3))
        self._batches_per_turn = max(1, round(self._turn_s / one))

    def run_turn(self) -> Timing:
        """Run one turn; its work is in samples."""
        batches = self._batches_per_turn
        return timed(lambda: self._run(batches), len(self._lanes) * batches * self.backend.batch)

    def throughput(self) -> float:
        """Run one turn; return samples per second."""
        timing = self.run_turn()
        return timing.work / timing.elapsed

    def call(self) -> None:
        """Run one batch on the first lane, in the calling thread."""
        lane = self._lanes[0]
        lane.submit(*self._inputs)
        lane.collect()

    def draw(self, *, seed: int, samples: int) -> dict[str, NDArray[Any]]:
        """Return samples 0 to ``samples`` - 1 of a seed, equal to a job's: each output's values [samples, …]."""
        starts = range(0, samples, self.backend.batch)

        def work(lane: ExecutionStream, share: Sequence[int]) -> list[dict[str, NDArray[Any]]]:
            latents = self._new_latents(seed=seed)
            made = []
            for start in share:
                lane.submit(*self._feeds(latents, start))
                made.append({name: values.copy() for name, values in lane.collect().items()})
            return made

        lanes = len(self._lanes)
        futures = [self._pool.submit(work, lane, starts[i::lanes]) for i, lane in enumerate(self._lanes)]
        shares = [future.result() for future in futures]
        ordered = [shares[i % lanes][i // lanes] for i in range(len(starts))]
        return {name: np.concatenate([one[name] for one in ordered])[:samples] for name in ordered[0]}

    def close(self) -> None:
        """Close the lanes. May be called again; after it, nothing else may."""
        self._pool.shutdown()
        for lane in self._lanes:
            lane.close()

    def _new_latents(self, *, seed: int) -> Latents:
        latent = self._bundle.latent
        return Latents(dim=latent.dim, distribution=latent.distribution, seed=seed)

    def _feeds(self, latents: Latents, start: int) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        batch, labels = self.backend.batch, self._bundle.labels
        class_ids = None if labels is None else np.arange(start, start + batch) % len(labels.names)
        return latents.draw(start, start + batch), class_ids

    def _run(self, batches: int) -> None:
        pairs = zip(self._lanes, self._latents, strict=True)
        for future in [self._pool.submit(self._work, *pair, batches) for pair in pairs]:
            future.result()

    def _work(self, lane: ExecutionStream, latents: Latents, batches: int) -> None:
        digest = blake3()
        for number in range(batches + lane.depth):
            if number >= lane.depth:
                outputs = lane.collect()
                if self._as_job:
                    for values in outputs.values():
                        digest.update(memoryview(np.ascontiguousarray(values)).cast("B"))
            if number < batches:
                lane.submit(*(self._feeds(latents, number * self.backend.batch) if self._as_job else self._inputs))


def relative_speeds(peer: Runner, runners: Sequence[Runner], *, seconds: float) -> list[float]:
    """Return each runner's speedup over the peer: the median of the rounds' ratios of samples per second.

    Takes about ``seconds``, and at least three rounds.
    """
    for runner in (peer, *runners):
        runner.warm_up()
    ratios: list[list[float]] = [[] for _ in runners]
    end = time.perf_counter() + seconds
    while len(ratios[0]) < _MIN_ROUNDS or time.perf_counter() < end:
        base = peer.throughput()
        for of_runner, runner in zip(ratios, runners, strict=True):
            of_runner.append(runner.throughput() / base)
    return [statistics.median(of_runner) for of_runner in ratios]
