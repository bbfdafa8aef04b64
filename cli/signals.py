"""SIGTERM ends every command: gracefully if possible, and after a grace period in any case."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM

GRACE_S = 10.0
"""Time for a command to stop gracefully. Schedulers send SIGKILL after 30 s. Ending sooner loses no shard."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. A subclass of Ctrl-C's exception, so code that handles one handles the other."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn the first SIGTERM into :class:`Terminated` in the main thread, and ignore the next ones while work stops.

    A scheduler may send several, and one in the middle of a ``finally`` would leave worker threads running. Ctrl-C
    still works. If the command has not ended :data:`GRACE_S` later, because a library hangs or the main thread
    does not return from one, the process exits with :data:`TERMINATED`.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # handlers can only be set there
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        with _exit_after_grace(lambda: signal.getsignal(signal.SIGTERM) in (handle, signal.SIG_IGN)):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _exit_after_grace(applies: Callable[[], bool]) -> Iterator[None]:
    """Start a thread that ends the process :data:`GRACE_S` after a SIGTERM.

    The thread reads signal numbers from Python's wakeup descriptor, which are written even while the main thread is in
    a C function. ``applies`` returns False for a command that has a handler of its own, as training has, which saves.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    ended = threading.Event()

    def watch() -> None:
        with contextlib.suppress(OSError), open(reader, "rb", buffering=0) as numbers:  # noqa: PTH123
            while number := numbers.read(1):
                if number[0] == signal.SIGTERM and applies():
                    if not ended.wait(GRACE_S):
                        _exit_now()
                    return

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="sigterm", daemon=True)
    try:
        with contextlib.suppress(RuntimeError):  # no thread can be started: go without
            thread.start()
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(writer)
        if thread.ident is None:
            os.close(reader)
        else:
            thread.join()


def _exit_now() -> Any:
    with contextlib.suppress(OSError):
        os.write(2, b"terminated: it did not stop gracefully; run the same command again and it resumes\n")
    os._exit(TERMINATED)
