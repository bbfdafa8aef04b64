"""What measuring costs: the guard's own share of the loop that it measures."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.measure.guard import TARGET, Rounds
from gen_engine.engine.measure.machine import Others
from gen_engine.engine.measure.subject import CANONICAL_FORM, open_subject


def processor_time(run: Callable[[], object]) -> float:
    """Return the seconds of processors that it takes."""
    began = time.process_time()
    run()
    return time.process_time() - began


def test_the_guards_own_overhead(against, shipped) -> None:
    """Unit: processor time of a round of two members, and of as many batches in a bare loop on as many threads.

    Limit: the bare loop, in the same run. Processor time, as the guard itself judges by.
    """
    subject = open_subject(shipped, CANONICAL_FORM)
    members = {TARGET: subject.runner(), "peer": subject.runner()}
    rounds = Rounds(members, Others())
    batches = sum(4 * members[name].spend().work for name in members) / subject.backend.batch / usable_cpus()
    latents = Latents(dim=shipped.latent.dim).draw(0, subject.backend.batch)
    labels = members[TARGET]._inputs[1]

    def loop() -> None:
        lane = subject.backend.lane()
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
    for member in members.values():
        member.close()
    over = statistics.median(take / alone for take, alone in zip(takes[-len(bares) :], bares, strict=False)) - 1
    against.require("the guard's share of the loop that it measures", over, at_most=0.01)
