"""Share-nothing lanes: each takes a shard at a time until none is left, and the first error stops them all."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

_LOOK_UP_S = 0.1


class Stopped(Exception):
    """Raised inside a lane to leave a shard unfinished, because the job is being stopped."""


class StopSignal:
    """Tells lanes to stop. Checked between batches."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask all lanes to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise Stopped if lanes were asked to stop."""
        if self._event.is_set():
            raise Stopped


def run_lanes(works: Sequence[Callable[[int], None]], items: Iterator[int], stop: StopSignal) -> None:
    """Run ``work(item)`` for every item, one thread a member of ``works``; each thread calls only its own.

    ``items`` is consumed lazily, under a lock. Returns when every item is done. The first exception of any lane
    stops the others and is raised here with its traceback; so is KeyboardInterrupt in the calling thread.
    """
    lock = threading.Lock()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def lane(work: Callable[[int], None]) -> None:
        try:
            while True:
                stop.check()
                with lock:
                    item = next(items, None)
                if item is None:
                    break
                work(item)
        except Stopped:
            ended.put(None)
        except BaseException as error:
            stop.set()
            ended.put(error)
        else:
            ended.put(None)

    threads = [threading.Thread(target=lane, args=(work,), name=f"lane-{i}") for i, work in enumerate(works)]
    errors: list[BaseException] = []
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            error = _take(ended)
            if error is not None:
                errors.append(error)
    finally:  # also on KeyboardInterrupt: no lane outlives the job
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[0]


class Behind:
    """Finishes a lane's work on a thread of its own, one piece at a time, while the lane begins the next.

    So a disk that takes its time to make a shard durable does not keep the generator waiting; and no more than one
    piece waits for it, however slow it is. Used by one thread.

    Args:
        stop: set when a piece fails, so that no lane goes on.
    """

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self, piece: Callable[[], None]) -> None:
        """Wait for the piece before, and start this one; if the one before failed, raise its error instead."""
        self.wait()
        self._thread = threading.Thread(
            target=self._guard, args=(piece,), name=f"{threading.current_thread().name}-behind"
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is under way. Raises the last piece's error, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _guard(self, piece: Callable[[], None]) -> None:
        try:
            piece()
        except BaseException as error:
            self._stop.set()
            self._error = error


def _take(ended: queue.SimpleQueue[BaseException | None]) -> BaseException | None:
    """Wait for a lane to end, looking up now and then: a signal that comes just before a wait does not end it."""
    while True:
        with contextlib.suppress(queue.Empty):
            return ended.get(timeout=_LOOK_UP_S)
