"""How much faster a student really is: samples per second of both, in turns, so that other work slows both alike."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import Bundle

ROUNDS: Final = 7
SECONDS: Final = 0.3
"""Of the teacher, in each round; the student makes as many samples."""


def measured_speedup(teacher: Bundle, student: Bundle) -> float:
    """Return samples per second ÷ the teacher's: the median over rounds, on one thread.

    A bundle that was compiled runs in its fastest variant here, another one as it was exported.
    """
    with Generator.open(teacher, workers=1) as slow, Generator.open(student, workers=1) as fast:
        seconds = max(_seconds(slow, slow.batch), 1e-6)
        count = slow.batch * max(1, round(SECONDS / seconds))
        _seconds(fast, count)
        return median(_seconds(slow, count) / _seconds(fast, count) for _ in range(ROUNDS))


def _seconds(generator: Generator, count: int) -> float:
    start = time.perf_counter()
    generator.sample(0, count)
    return time.perf_counter() - start
