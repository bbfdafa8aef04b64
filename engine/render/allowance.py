"""Limits on the time and memory of the first batch, and a way to run it that can be stopped.

The first batch is the first thing that a graph computes here: it may loop for ever, or allocate ten gigabytes. It runs
on its own thread, so that Ctrl-C is noticed while the runtime computes.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gen_engine.engine.base.limits import limit, limited_memory
from gen_engine.engine.errors import BackendError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.render.threads import thread_limit

T = TypeVar("T")
Cancel = Callable[[], None]

_SECONDS_PER_VALUE = 50e-6
_SECONDS_PER_WEIGHT_BYTE = 10e-9
"""Per sample: about 40 times the cost of one multiplication per weight."""

_BYTES_PER_VALUE = 4096
"""1,024 float32 activations per output value."""

_BYTES_PER_WEIGHT_BYTE = 8
_LOOK_UP_S, _LET_GO_S = 0.05, 0.5


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Limits on opening a graph and rendering one batch."""

    seconds: float
    memory: float
    """Bytes, beyond what the process already uses."""

    @classmethod
    def of(cls, bundle: Bundle, graph_bytes: int, batch: int) -> Allowance:
        """Return the allowance of a batch: a fixed part, and one that grows with what the bundle promises."""
        values = batch * (sum(math.prod(output.shape) for output in bundle.outputs) + bundle.latent.dim)
        return cls(
            seconds=limit("first-batch-seconds")
            + _SECONDS_PER_VALUE * values
            + _SECONDS_PER_WEIGHT_BYTE * batch * graph_bytes,
            memory=limit("first-batch-gib") * 2**30 + _BYTES_PER_VALUE * values + _BYTES_PER_WEIGHT_BYTE * graph_bytes,
        )


def run_stoppable(work: Callable[[list[Cancel]], T], allowance: Allowance, what: str) -> T:
    """Run ``work`` on a thread, and return what it returns or raise what it raises.

    Args:
        work: takes a list, to which it appends functions that cancel it when another thread calls them.
        allowance: its limits.
        what: its name in messages.

    Raises:
        BackendError: it took too long. If the runtime cannot be stopped, its thread is left behind.
        KeyboardInterrupt: passed on, after ``work`` was cancelled.
    """
    cancels: list[Cancel] = []
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()  # not Thread.join: when interrupted, it takes a running thread as ended (Python < 3.13)

    def run() -> None:
        try:
            results.append(work(cancels))
        except BaseException as error:  # raised again on the caller's thread
            errors.append(error)
        finally:
            ended.set()

    with limited_memory(allowance.memory):
        with thread_limit():
            threading.Thread(target=run, name="first batch", daemon=True).start()
        try:
            in_time = _wait(ended, allowance.seconds)
        except BaseException:
            _stop(ended, cancels, 130)
            raise
    if not in_time:
        _stop(ended, cancels, BackendError.exit_code)
        raise BackendError(
            f"{what} was stopped: it did not end within {allowance.seconds:.0f} s. If this generator is so slow, use a "
            "smaller --batch, or raise the limit with 'gen-engine --limit first-batch-seconds=VALUE …'"
        )
    if errors:
        raise errors[0]
    return results[0]


def _wait(ended: threading.Event, seconds: float) -> bool:
    """Wait for the end, polling: on some systems a signal does not end a wait."""
    deadline = time.monotonic() + seconds
    while not ended.wait(max(0.0, min(_LOOK_UP_S, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return False
    return True


def _stop(ended: threading.Event, cancels: list[Cancel], exit_code: int) -> None:
    """Cancel the work. If its runtime does not stop, the process will exit without waiting for it."""
    for cancel in tuple(cancels):
        cancel()
    if not ended.wait(_LET_GO_S):
        atexit.register(_leave, exit_code)


def _leave(exit_code: int) -> None:
    """Exit the process at once: a runtime's destructors would wait for a computation that never ends."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(exit_code)
