"""The overhead of measuring: its share of the loop that it measures."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.measure.machine import BackgroundLoad
from gen_engine.engine.measure.sequential_test import PEER, TARGET, Rounds
from gen_engine.engine.measure.target import open_target


def processor_time(run: Callable[[], object]) -> float:
    """Return the processor seconds of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def test_the_overhead_of_rounds(against, shipped) -> None:
    """Unit: a round of two workloads. Peer: as many batches in a bare loop on as many threads.

    Compared by processor time, the primary metric of the sequential test.
    """
    target = open_target(shipped, Runtime(), canonical=True)
    runners = {TARGET: target.runner(), PEER: target.runner()}
    rounds = Rounds(runners, BackgroundLoad())
    batches = sum(4 * runner.run_turn().work for runner in runners.values()) / target.backend.batch / usable_cpus()
    latents = Latents(dim=shipped.latent.dim).draw(0, target.backend.batch)
    labels = runners[TARGET]._inputs[1]

    def loop() -> None:
        lane = target.backend.open_stream()
        for _ in range(round(batches)):
            lane.submit(latents, labels)
            lane.collect()

    def bare() -> None:
        threads = [threading.Thread(target=loop) for _ in range(usable_cpus())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    takes: list[float] = []
    bares: list[float] = []
    against(lambda: takes.append(processor_time(rounds.take)), lambda: bares.append(processor_time(bare)), rounds=61)
    for runner in runners.values():
        runner.close()
    overhead = statistics.median(take / alone for take, alone in zip(takes[-len(bares) :], bares, strict=False)) - 1
    against.require("overhead of measuring, as a share of the measured loop", overhead, at_most=0.01)
