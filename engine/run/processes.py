"""Shards in worker processes, one per device. Each opens the job for itself and runs its threads there.

A worker requests a shard's number when one of its threads is free, and reports what it rendered and committed. It has
no state that must survive: one that is killed loses only the shards that it was rendering.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeAlias

from gen_engine.engine.commit.ledger import Committer
from gen_engine.engine.errors import BackendError, EngineError
from gen_engine.engine.render.threads import Stopped, thread_limit
from gen_engine.engine.run.executor import CommittedShard, Progress, Task
from gen_engine.engine.run.threads import ThreadExecutor

_log = logging.getLogger(__name__)

_REPORT_S = 0.1
"""Minimum interval between a worker's progress reports: a message per batch would keep the driver busy."""

_POLL_S = 0.1
_PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_S = 2.0
"""How long workers may take to exit by themselves before they are killed."""


class Free(NamedTuple):
    """A thread of the worker is free: the driver answers with a shard's number, or None if there is no more."""


class Rendered(NamedTuple):
    """``samples`` more samples were rendered."""

    samples: int


class Done(NamedTuple):
    """Every shard assigned to the worker is committed."""


class Failure(NamedTuple):
    """What went wrong in a worker, in a form that can be pickled."""

    kind: type[EngineError] | None
    """Its class if it is a typed error; None for a bug."""

    message: str
    cause: str | None
    traceback: str


Message: TypeAlias = Free | Rendered | CommittedShard | Done | Failure


class RemoteCause(Exception):
    """The cause of an error in a worker; ``traceback`` is where it was raised there."""

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


class ProcessExecutor:
    """Runs shards in one worker process per device. See :class:`~gen_engine.engine.run.executor.Executor`.

    Args:
        devices: one per process, all of one model.
        workers: threads, divided among the processes; at most that many processes are started.
    """

    def __init__(self, devices: Sequence[str], workers: int) -> None:
        self._devices = devices[:workers]
        self._threads = -(-workers // len(self._devices))

    def run(self, task: Task, committer: Committer, shards: Iterable[int], progress: Progress) -> None:
        """Render and commit every shard, in the process whose thread is free first."""
        numbers = iter(shards)
        workers: dict[Connection, _Worker] = {}
        try:
            for device in self._devices:
                worker = _Worker(task, committer, device, self._threads)
                workers[worker.pipe] = worker
            running = dict(workers)
            while running:
                for pipe in connection.wait(list(running), _POLL_S):
                    assert isinstance(pipe, Connection)
                    if running[pipe].handle_message(numbers, progress):
                        del running[pipe]
        finally:
            _end(list(workers.values()))


class _Worker:
    """The driver's end of one worker process."""

    def __init__(self, task: Task, committer: Committer, device: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the parent's CUDA context and locks
        self.device = device
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(task, committer, device, threads, theirs), name=f"device-{device}", daemon=True
        )
        try:
            with thread_limit(), _signals_held_back():
                self.process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            theirs.close()  # so that reading reaches the end of the pipe when the process has exited
        _log.debug("device %s: worker process %s started", device, self.process.pid)

    def handle_message(self, numbers: Iterator[int], progress: Progress) -> bool:
        """Handle the worker's next message, and return whether it was its last.

        Raises:
            EngineError: the worker's own, or BackendError if its process has ended.
        """
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise BackendError(self._how_it_ended()) from error
        if isinstance(message, Failure):
            raise _error_of(message, self.device)
        if isinstance(message, Free):
            with contextlib.suppress(OSError):  # it has exited: its exit code is read next
                self.pipe.send(next(numbers, None))
        elif isinstance(message, Rendered):
            progress.rendered(message.samples)
        elif isinstance(message, CommittedShard):
            progress.committed(message)
        return isinstance(message, Done)

    def _how_it_ended(self) -> str:
        self.process.join(_PATIENCE_S)
        code = self.process.exitcode
        if code is not None and code < 0:
            number = -code
            name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
            what = f"was killed by signal {number} ({name})"
            hint = "; the system kills processes this way when memory runs out" if number == signal.SIGKILL else ""
        else:
            what, hint = f"exited with code {code}", ""
        return f"the process of device {self.device} {what}{hint}; run the same command again: finished shards are kept"


def _end(workers: Sequence[_Worker]) -> None:
    """Close the pipes, which ends the processes in order; kill those that do not exit."""
    for worker in workers:
        worker.pipe.close()
    latest = time.monotonic() + _PATIENCE_S
    for worker in workers:
        worker.process.join(max(0.0, latest - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Start a process so that Ctrl-C, which goes to the whole group, does not end it before it can ignore the signal.

    The process inherits a mask that blocks the signals. In the parent that is not enough: the system delivers them to
    another thread, a library's, and Python then interrupts its main thread between starting the process and sending it
    its task.
    """
    resource_tracker.ensure_running()  # otherwise it would be started in here, with the signals unblocked
    held: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # other threads are not interrupted
        handlers = {number: signal.signal(number, lambda got, _: held.append(got)) for number in _PARENTS_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in held:
            signal.raise_signal(number)


def _error_of(failure: Failure, device: str) -> Exception:
    """Return the error as it was raised in the worker; for a bug, with the whole traceback of its process."""
    if failure.kind is None:
        return RuntimeError(f"a bug in the process of device {device}:\n\n{failure.traceback}")
    error = failure.kind(failure.message)
    error.__cause__ = RemoteCause(failure.cause or failure.message, failure.traceback)
    return error


class _Driver:
    """The worker's end: receives shard numbers from the driver and reports progress to it. Used by many threads.

    A closed pipe means that the job is over or being stopped: it raises Stopped.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()
        self._unreported, self._reported = 0, time.monotonic()

    def numbers(self) -> Iterator[int]:
        """Yield the shards that the driver assigns. For one thread at a time."""
        while True:
            self.send(Free())
            with _stopped_if_closed():
                number = self._pipe.recv()
            if number is None:
                return
            yield number

    def rendered(self, samples: int) -> None:
        """Report more rendered samples, now or together with the next ones."""
        with self._sending:
            self._unreported += samples
            if time.monotonic() - self._reported >= _REPORT_S:
                self._report()

    def committed(self, shard: CommittedShard) -> None:
        """Report a shard, after all of its samples."""
        with self._sending:
            self._report()
            self._send(shard)

    def send(self, message: Message) -> None:
        """Send a message."""
        with self._sending:
            self._send(message)

    def _report(self) -> None:
        if self._unreported:
            self._send(Rendered(self._unreported))
        self._unreported, self._reported = 0, time.monotonic()

    def _send(self, message: Message) -> None:
        with _stopped_if_closed():
            self._pipe.send(message)


@contextlib.contextmanager
def _stopped_if_closed() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise Stopped from error


def _serve(task: Task, committer: Committer, device: str, threads: int, pipe: Connection) -> None:
    """Run a worker process."""
    for number in _PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # they reach the whole group; the parent stops the workers in order
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    driver = _Driver(pipe)
    with contextlib.suppress(Stopped):
        try:
            ThreadExecutor(threads, task.open(device)).run(task, committer, driver.numbers(), driver)
            driver.send(Done())
        except Stopped:
            return
        except BaseException as error:
            driver.send(_failure_of(error))


def _end_with_parent() -> None:
    """Exit if the driver was killed: this process must not commit alongside the next driver, nor hang in a library."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _failure_of(error: BaseException) -> Failure:
    kind = type(error) if isinstance(error, EngineError) else None
    cause = None if error.__cause__ is None else f"{type(error.__cause__).__name__}: {error.__cause__}"
    return Failure(kind, str(error), cause, "".join(traceback.format_exception(error)))
