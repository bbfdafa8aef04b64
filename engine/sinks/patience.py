"""Requests to a store that may fail, hang or be refused: retried, abandoned, or reported at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from gen_engine.engine.errors import BackendError, EngineError, OutputError, OutputUnavailable

T = TypeVar("T")

_FINAL = (FileNotFoundError, FileExistsError, PermissionError, NotImplementedError, TypeError, ValueError, ImportError)
"""Errors that a retry would not fix."""


@dataclass(frozen=True)
class Patience:
    """The timeout of a request, and how often it is tried."""

    attempts: int = 6
    first_pause_s: float = 0.5
    """Delay before the second attempt; doubled before each further one."""

    seconds: float = 60.0
    """Timeout of an attempt, plus the time to send its bytes at :attr:`bytes_per_second`."""

    bytes_per_second: float = 1e6

    def call(self, what: str, function: Callable[[], T], size: int = 0) -> T:
        """Return what ``function`` returns.

        Args:
            what: the request, for messages.
            function: makes the request; may run several times, and after a timeout still run in the background.
            size: bytes that it sends.

        Raises:
            OutputError: there are no credentials.
            BackendError: there is not enough memory, or the system starts no more threads.
            FileNotFoundError, PermissionError, …: the store refused it.
            OutputUnavailable: no attempt succeeded.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return _within(self.seconds + size / self.bytes_per_second, function)
            except (EngineError, *_FINAL):
                raise
            except MemoryError as error:
                raise BackendError(
                    f"cannot {what}: memory ran out; use fewer --workers, or raise the limit (ulimit -v, the "
                    "container's); finished shards are kept"
                ) from error
            except Exception as error:
                if "Credential" in type(error).__name__:
                    raise OutputError(
                        f"cannot {what}: there are no credentials for it ({error}); set AWS_ACCESS_KEY_ID and "
                        "AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or what your store's fsspec library asks for"
                    ) from error
                if isinstance(error, RuntimeError) and "start new thread" in str(error):
                    raise _no_thread(error) from error  # the library's own
                if attempt == self.attempts:
                    raise OutputUnavailable(
                        f"cannot {what}: {attempt} attempts failed, the last with {_reason(error)}; run the same "
                        "command again: finished shards are kept"
                    ) from error
                time.sleep(self.first_pause_s * 2 ** (attempt - 1))
        raise AssertionError("attempts is at least 1")


def _within(seconds: float, function: Callable[[], T]) -> T:
    """Run ``function`` in a thread that is abandoned if it takes longer."""
    answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((function(), None))
        except Exception as error:
            answers.put((None, error))

    start_thread(run, "request")
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    result: T = answer
    return result


def start_thread(function: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread.

    Raises:
        BackendError: the system refuses to start another thread.
    """
    thread = threading.Thread(target=function, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise _no_thread(error) from error
    return thread


def _no_thread(error: RuntimeError) -> BackendError:
    return BackendError(
        f"the system starts no more threads, needed for requests to a store ({error}): use fewer --workers, or raise "
        "the limits (ulimit -u, the container's pids); the same command resumes"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
