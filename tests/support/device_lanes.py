"""Lanes for processes that are no device's: plain functions, where a process that was spawned can import them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gen_engine.engine.errors import BackendUnavailable, WriterError


@contextlib.contextmanager
def lanes(device: str, count: int) -> Iterator[Sequence[Callable[..., Any]]]:
    """Lanes whose items say what they should do."""
    if device == "absent":
        raise BackendUnavailable("device 'absent': there is none") from OSError("no driver")
    if device == "broken":
        raise ZeroDivisionError("while it was opened")
    if device == "dead":
        os._exit(7)
    if device == "asleep":
        time.sleep(60)
    yield [_work] * count
    Path(os.environ.get("CLOSED_IN_ORDER", os.devnull)).write_text(device)


def _work(item: Any, heard: Callable[[int], None]) -> Any:
    match item:
        case ["pid"]:
            return os.getpid()
        case ["count", n]:
            for _ in range(n):
                heard(1)
                time.sleep(0.01)
            return n
        case ["refuse", said]:
            raise WriterError(said) from OSError(28, "No space left on device")
        case ["bug"]:
            return {}["missing"]
        case ["die", number]:
            os.kill(os.getpid(), number)
            signal.pause()
        case ["exit", code]:
            os._exit(code)
        case ["hang"]:
            time.sleep(60)
        case ["patient"]:
            while True:
                heard(1)
                time.sleep(0.01)
    return item
