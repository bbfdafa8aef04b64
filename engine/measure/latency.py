"""How long one call takes, as a serving user meets it: back to back, and under a steady load.

Under load, requests come at a fixed rate whether the one before is done or not, and each one's latency counts from the
moment it was due. A stall then counts against every request that it kept waiting, and not against one ("coordinated
omission", as Gil Tene named the mistake).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from gen_engine.engine.measure.histogram import Histogram

QUANTILES = (0.5, 0.95, 0.99, 0.999)

LOAD = 0.5
"""Requests a second under steady load, as a share of what back-to-back calls reach."""

_SPIN_S = 0.0005
"""A sleeping thread wakes up some tenths of a millisecond late, which is not the generator's: the rest it is awake."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latencies of many calls."""

    arrivals: str
    """``back to back`` or ``steady load``."""

    batch: int
    rate: float
    """Calls a second: as reached back to back, or as they were due."""

    histogram: Histogram
    """In nanoseconds."""

    jitter: float
    """Mean difference of a call's latency from the one before, seconds (as in RFC 3550, without its smoothing)."""

    def quantile(self, share: float) -> float | None:
        """Return a quantile in seconds; None if fewer than one call is expected beyond it."""
        beyond = (1 - share) * self.histogram.count
        return self.histogram.quantile(share) * 1e-9 if beyond >= 1 - 1e-9 else None


def back_to_back(
    call: Callable[[], object], *, batch: int, seconds: float, clock: Callable[[], int] = time.perf_counter_ns
) -> Latency:
    """Call again as soon as the call before is done, for so long and at least ten times."""
    log = _Log()
    began = now = clock()
    while now - began < seconds * 1e9 or log.histogram.count < _LEAST:
        call()
        then, now = now, clock()
        log.add(now - then)
    rate = log.histogram.count / ((now - began) * 1e-9)
    return Latency(arrivals="back to back", batch=batch, rate=rate, histogram=log.histogram, jitter=log.jitter)


def steady_load(
    call: Callable[[], object],
    *,
    batch: int,
    rate: float,
    seconds: float,
    clock: Callable[[], int] = time.perf_counter_ns,
    wait: Callable[[float], None] = time.sleep,
) -> Latency:
    """Call at so many moments a second; count each call from the moment it was due.

    Calls that are due while another runs wait for it, one after the other. After so long no more are due.
    """
    log = _Log()
    apart = 1e9 / rate
    began = clock()
    for number in range(max(_LEAST, math.floor(seconds * rate))):
        due = began + round(number * apart)
        while (ahead := (due - clock()) * 1e-9) > 0:
            if ahead > _SPIN_S:
                wait(ahead - _SPIN_S)
        call()
        log.add(clock() - due)
    return Latency(arrivals="steady load", batch=batch, rate=rate, histogram=log.histogram, jitter=log.jitter)


_LEAST = 10


class _Log:
    """A histogram and the differences of neighbours."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._last: int | None = None
        self._differences = 0

    def add(self, nanoseconds: int) -> None:
        if self._last is not None:
            self._differences += abs(nanoseconds - self._last)
        self._last = nanoseconds
        self.histogram.add(nanoseconds)

    @property
    def jitter(self) -> float:
        """Seconds."""
        return self._differences * 1e-9 / max(self.histogram.count - 1, 1)
