"""The share of time for which the interpreter's lock is held: what more threads cannot speed up.

A sampling thread sleeps without the lock, takes it, and times the taking: a free lock is there within a microsecond,
and for a held one the thread has to be woken. Its arrivals are a Poisson process, which sees the time average (Wolff,
"Poisson Arrivals See Time Averages", 1982). While it waits it cannot arrive again, so the arrivals that are expected
meanwhile count as ones that found the lock held.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import TracebackType

from gen_engine.engine.native import instrument

_GAP_S = 0.001
"""Mean time between arrivals. Each costs some microseconds, of this thread and of the one that held the lock."""

_FREE_NS = 5_000
"""Taking a free lock takes tenths of a microsecond; waking a thread that waits for one takes tens of them."""


class LockSampler:
    """Samples the lock on a thread of its own, for the duration of a ``with`` block.

    Args:
        lock_wait: sleeps without the lock for so many nanoseconds, and returns how many taking it back took. By default
            that of the compiled core, which is used although it may be switched off.
    """

    def __init__(self, lock_wait: Callable[[int], int] | None = None) -> None:
        core = instrument()
        self._lock_wait = lock_wait or (None if core is None else core.lock_wait)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="lock-sampler")
        self.arrivals = 0.0
        """Arrivals, including those expected during waits."""

        self._held = 0.0

    @property
    def share(self) -> float | None:
        """The share of time for which other threads held the lock, 0 to 1; None if it was not sampled.

        Its standard error is about ``sqrt(share * (1 - share) / arrivals)``, and larger where the lock is held or free
        for much longer than a millisecond at a time.
        """
        return self._held / self.arrivals if self.arrivals else None

    def __enter__(self) -> LockSampler:
        if self._lock_wait is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _sample(self) -> None:
        assert self._lock_wait is not None
        rng = random.Random(0)
        while not self._ending.is_set():
            waited_ns = self._lock_wait(round(rng.expovariate(1 / _GAP_S) * 1e9))
            missed = waited_ns * 1e-9 / _GAP_S if waited_ns > _FREE_NS else 0.0
            self.arrivals += 1 + missed
            if waited_ns > _FREE_NS:
                self._held += 1 + missed
