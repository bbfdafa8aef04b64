"""Threads that stop together: the first error, or Ctrl-C, ends them all."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from gen_engine.engine.errors import BackendError

_POLL_S = 0.1
"""A signal that arrives just before a wait does not interrupt it, so no wait is longer."""


class Stopped(Exception):
    """Raised inside a thread to leave its work unfinished, because the job is being stopped."""


class StopSignal:
    """A flag that stops threads. Checked between batches."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask all threads to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise Stopped if threads were asked to stop."""
        if self._event.is_set():
            raise Stopped


def run_threads(works: Sequence[Callable[[], None]], stop: StopSignal, *, name: str = "worker") -> None:
    """Run each of ``works`` on its own thread and return when all have ended.

    The first exception of any sets ``stop`` and is raised here, with its traceback, once the others have ended; so is
    KeyboardInterrupt in the calling thread.

    Raises:
        BackendError: the system refuses to start another thread.
    """
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            return
        except BaseException as error:
            errors.append(error)
            stop.set()

    if not works:
        return
    with ThreadPoolExecutor(len(works), thread_name_prefix=name) as pool:
        try:
            pending = {submit(pool, guarded, work) for work in works}
            while pending:
                _, pending = wait(pending, timeout=_POLL_S)
        finally:  # leaving the block waits for the threads, also after KeyboardInterrupt
            stop.set()
    if errors:
        raise errors[0]


def submit(pool: ThreadPoolExecutor, work: Callable[..., None], *args: object) -> Future[None]:
    """Submit work to a pool, which may have to start a thread for it.

    Raises:
        BackendError: the system refuses to start another thread.
    """
    with thread_limit():
        return pool.submit(work, *args)


@contextlib.contextmanager
def thread_limit() -> Iterator[None]:
    """Turn the system's refusal to start a thread or a process into an error that says the fix."""
    try:
        yield
    except (RuntimeError, OSError, MemoryError) as error:
        refused = not isinstance(error, OSError) or error.errno in (errno.EAGAIN, errno.ENOMEM)
        if not refused or (isinstance(error, RuntimeError) and "start new thread" not in str(error)):
            raise
        raise BackendError(
            f"the system starts no more threads or processes ({error}): use fewer --workers, or raise its limits "
            "(ulimit -u, ulimit -v, the container's pids and memory); the same command resumes"
        ) from error
