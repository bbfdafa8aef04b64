"""A process a device: each opens its lanes for itself, and is told by this process which item to work on next.

A lane here is a proxy: it sends an item through a pipe, hears how the work goes on and returns its result, so whoever
runs lanes need not know in which process they are. The processes hold nothing that must be kept: one that is killed
costs the items that it was at.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias

from gen_engine.engine.errors import BackendError, EngineError

Heard: TypeAlias = Callable[[int], None]
"""Told how many more samples were made, 0 to say that it goes on; raises to end the work in the middle."""

Work: TypeAlias = Callable[[Any, Heard], Any]
"""One lane: an item in, its result out. Both go through a pipe if it is another process's."""

Opener: TypeAlias = Callable[[str, int], AbstractContextManager[Sequence[Work]]]
"""Opens so many lanes on a device; called in the device's own process."""

_TELL_EVERY_S = 0.1
"""A message a batch would keep this process busy with nothing but hearing."""

_LOOK_UP_S = 0.1
_PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_S = 2.0
"""How long processes may take to end by themselves; then they are killed."""


class Failure(NamedTuple):
    """What went wrong in a process, in a form that passes a pipe."""

    kind: type[EngineError] | None
    """Its class if it was raised on purpose; None for a bug."""

    message: str
    cause: str | None
    traceback: str


class RemoteCause(Exception):
    """What caused an error in a device's process; ``traceback`` is all that was known of it there."""

    def __init__(self, said: str, traceback: str) -> None:
        super().__init__(said)
        self.traceback = traceback


class DeviceProcesses:
    """Processes with lanes, one a device, open until the block is left.

    Args:
        opener: opens lanes in each process; pickled on the way there.
        devices: one for each process.
        lanes: how many lanes each has.

    Raises:
        EngineError: a device cannot be opened, with the class and the message that its process had.
        BackendError: a process ended by itself.
    """

    def __init__(self, opener: Opener, devices: Sequence[str], lanes: int) -> None:
        self.lanes: list[Work] = []
        """Those of all devices, taking turns, so that the first ones are not all on one."""
        self._opener, self._devices, self._count = opener, devices, lanes
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []

    def __enter__(self) -> DeviceProcesses:
        try:
            opened = [self._start(device) for device in self._devices]
            for lanes in opened:
                for lane in lanes:
                    lane.wait_until_ready()
        except BaseException:
            self._end()
            raise
        self.lanes = [lane for turn in zip(*opened, strict=True) for lane in turn]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self, device: str) -> list[_RemoteLane]:
        context = multiprocessing.get_context("spawn")  # a fork would share the parent's CUDA context and locks
        pipes = [context.Pipe() for _ in range(self._count)]
        theirs = [their_end for _, their_end in pipes]
        process = context.Process(
            target=_serve, args=(self._opener, device, theirs), name=f"device-{device}", daemon=True
        )
        self._pipes += [our_end for our_end, _ in pipes]
        with _signals_held_back():
            process.start()
        self._processes.append(process)
        for their_end in theirs:
            their_end.close()  # so that we read its end when the process has gone
        return [_RemoteLane(device, process, our_end) for our_end, _ in pipes]

    def _end(self) -> None:
        """Close the pipes, which ends the processes in order; kill those that do not notice."""
        for pipe in self._pipes:
            pipe.close()
        latest = time.monotonic() + _PATIENCE_S
        for process in self._processes:
            process.join(max(0.0, latest - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Start a process so that Ctrl-C, which goes to the whole group, does not end it before it can ignore that.

    The process inherits that the signals are blocked. Here that is not enough: the system gives them to another thread,
    a library's, and Python then interrupts its main thread, between starting the process and telling it what to do.
    """
    resource_tracker.ensure_running()  # else it is started in here, and lets the signals through again
    held: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # in others nothing is interrupted
        handlers = {number: signal.signal(number, lambda got, _: held.append(got)) for number in _PARENTS_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in held:
            signal.raise_signal(number)


class _RemoteLane:
    """Our end of one lane of a process. Used by one thread."""

    def __init__(self, device: str, process: Any, pipe: Connection) -> None:
        self._device, self._process, self._pipe = device, process, pipe

    def wait_until_ready(self) -> None:
        """Return when the process has opened the lane."""
        self._receive(lambda _: None)

    def __call__(self, item: Any, heard: Heard) -> Any:
        """Have the process work on an item; return the result."""
        with contextlib.suppress(OSError):  # it has gone: what it said before, or how it ended, is read below
            self._pipe.send(item)
        while True:
            samples, result = self._receive(heard)
            heard(samples)
            if result is not None:
                return result

    def _receive(self, heard: Heard) -> tuple[int, Any]:
        try:
            while not self._pipe.poll(_LOOK_UP_S):
                heard(0)
            said = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise BackendError(self._how_it_ended()) from error
        if isinstance(said, Failure):
            raise _error_of(said, self._device)
        samples, result = said
        return samples, result

    def _how_it_ended(self) -> str:
        self._process.join(_PATIENCE_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            number = -code
            name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
            what = f"was killed by signal {number} ({name})"
            hint = "; the system kills a process like that when memory runs out" if number == signal.SIGKILL else ""
        else:
            what, hint = f"ended by itself with code {code}", ""
        return (
            f"the process of device {self._device} {what}{hint}; run the same command again: finished shards are kept"
        )


def _error_of(failure: Failure, device: str) -> Exception:
    """Return the error as it was raised there; a bug with the whole traceback of its process."""
    if failure.kind is None:
        return RuntimeError(f"a bug in the process of device {device}:\n\n{failure.traceback}")
    error = failure.kind(failure.message)
    error.__cause__ = RemoteCause(failure.cause or failure.message, failure.traceback)
    return error


def _serve(opener: Opener, device: str, pipes: Sequence[Connection]) -> None:
    """Be a device's process: open its lanes, and serve each pipe on a thread until its other end is closed."""
    for number in _PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # they reach the whole group; the parent ends us in order
    try:
        with opener(device, len(pipes)) as works:
            threads = [threading.Thread(target=_serve_lane, args=pair) for pair in zip(works, pipes, strict=True)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    except BaseException as error:
        for pipe in pipes:
            _send(pipe, _failure_of(error))


def _serve_lane(work: Work, pipe: Connection) -> None:
    """Work on what comes, until nothing does any more."""
    untold, told = 0, time.monotonic()

    def heard(samples: int) -> None:
        nonlocal untold, told
        untold += samples
        if time.monotonic() - told >= _TELL_EVERY_S:
            pipe.send((untold, None))  # raises if the other end was closed, which ends the work
            untold, told = 0, time.monotonic()

    try:
        pipe.send((0, None))
        while True:
            item = pipe.recv()
            result = work(item, heard)
            pipe.send((untold, result))
            untold = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody waits for us: the job is over, or being stopped
    except BaseException as error:
        _send(pipe, _failure_of(error))


def _send(pipe: Connection, failure: Failure) -> None:
    with contextlib.suppress(OSError):
        pipe.send(failure)


def _failure_of(error: BaseException) -> Failure:
    kind = type(error) if isinstance(error, EngineError) else None
    cause = None if error.__cause__ is None else f"{type(error.__cause__).__name__}: {error.__cause__}"
    return Failure(kind, str(error), cause, "".join(traceback.format_exception(error)))
