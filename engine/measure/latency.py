"""Latency of single calls, as a serving application meets it: back to back, and under a steady load.

Under load, requests arrive at a fixed rate whether or not the previous one is done, and a latency counts from the time
at which its request was due. A stall then counts against every request that waited for it, not against one alone
(Gil Tene calls that mistake "coordinated omission").
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from gen_engine.engine.measure.histogram import Histogram

QUANTILES = (0.5, 0.95, 0.99, 0.999)

LOAD = 0.5
"""Request rate under steady load, as a share of the rate of back-to-back calls."""

_SPIN_S = 0.0005
"""A sleeping thread wakes up some tenths of a millisecond late, so the last part of each wait is a busy loop."""

_MIN_CALLS = 10


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latencies of many calls."""

    arrivals: str
    """``back to back`` or ``steady load``."""

    batch: int
    rate: float
    """Calls per second: achieved back to back, or scheduled under steady load."""

    histogram: Histogram
    """In nanoseconds."""

    jitter: float
    """Mean absolute difference between consecutive latencies, seconds (RFC 3550, without its smoothing)."""

    def quantile(self, share: float) -> float | None:
        """Return a quantile in seconds; None if fewer than one call is expected beyond it."""
        beyond = (1 - share) * self.histogram.count
        return self.histogram.quantile(share) * 1e-9 if beyond >= 1 - 1e-9 else None


def back_to_back(
    call: Callable[[], object], *, batch: int, seconds: float, clock: Callable[[], int] = time.perf_counter_ns
) -> Latency:
    """Call as soon as the previous call is done, for that many seconds and at least ten times."""
    log = _Log()
    began = now = clock()
    while now - began < seconds * 1e9 or log.histogram.count < _MIN_CALLS:
        call()
        before, now = now, clock()
        log.add(now - before)
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
    """Schedule ``rate`` calls per second for that many seconds; measure each call from the time it was due.

    Calls that are due while another one runs are made one after the other when it is done.
    """
    log = _Log()
    interval_ns = 1e9 / rate
    began = clock()
    for number in range(max(_MIN_CALLS, math.floor(seconds * rate))):
        due = began + round(number * interval_ns)
        while (ahead := (due - clock()) * 1e-9) > 0:
            if ahead > _SPIN_S:
                wait(ahead - _SPIN_S)
        call()
        log.add(clock() - due)
    return Latency(arrivals="steady load", batch=batch, rate=rate, histogram=log.histogram, jitter=log.jitter)


class _Log:
    """A histogram, and the differences between consecutive values."""

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
