"""Samples in order, prefetched for their reader by worker threads, each with an execution stream.

All state belongs to the reader's thread. It allocates the arrays, issues tickets for a few batches of the grid each,
and collects them when they are done; workers only fill disjoint slices of these arrays. So nothing is locked, each
sample is rendered once whatever the reader's batch is, and the tickets bound how far workers may prefetch.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.threads import Stopped, StopSignal
from gen_engine.engine.sample.schema import Batch, Ragged

TICKET_BATCHES = 4
"""Batches of the grid per ticket: a worker's pipeline drains at the end of one, and a reader waits for a whole one."""

_POLL_S = 0.1


Reading: TypeAlias = Generator[Batch, None, None]
"""An iterator that can be closed. The arrays belong to the caller: nothing writes to them again."""


@dataclass
class _Slot:
    """Samples ``[start, start + n)`` on their way to the reader."""

    samples: Batch
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.samples)

    @property
    def start(self) -> int:
        return self.samples.start

    @property
    def stop(self) -> int:
        return self.samples.stop


class _Ticket(NamedTuple):
    """An order to render the samples ``[start, stop)`` into their slots, in order."""

    start: int
    stop: int
    slots: list[_Slot]


class Stream:
    """One pass over the samples ``[start, stop)``.

    Args:
        open_renderer: opens an execution stream and its renderer; called once by each worker.
        allocate: allocates the arrays for the samples ``[start, stop)``.
        check: raises if the stream must stop; called at every step of the reader.
        start: the first sample.
        stop: the one after the last.
        batch: samples per step of the reader; the last step may have fewer.
        ticket: samples per ticket, a multiple of the grid's batch.
        workers: threads that prefetch.
    """

    def __init__(
        self,
        open_renderer: Callable[[], AbstractContextManager[Renderer]],
        allocate: Callable[[int, int], Batch],
        check: Callable[[], object],
        *,
        start: int,
        stop: int,
        batch: int,
        ticket: int,
        workers: int,
    ) -> None:
        self._open_renderer, self._allocate, self._check = open_renderer, allocate, check
        self._start, self._stop, self._batch, self._ticket, self._workers = start, stop, batch, ticket, workers
        self._ahead = batch + 2 * workers * ticket
        self._issued = start
        self._slots: dict[int, _Slot] = {}
        self._tickets: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[_Ticket | BaseException] = queue.SimpleQueue()
        self._ending = StopSignal()
        self._reader = threading.current_thread()

    def read(self) -> Reading:
        """Yield all samples in order. However the iteration ends, no worker outlives it.

        Raises:
            BackendError: the generator failed; the other workers were stopped.
        """
        threads = [threading.Thread(target=self._work, name=f"stream-worker-{i}") for i in range(self._workers)]
        try:
            for thread in threads:
                thread.start()
            yield from self._steps()
        finally:  # also when the reader has left, or was interrupted while it waited
            self._ending.set()
            for _ in threads:
                self._tickets.put(None)
            for thread in threads:
                if thread.ident is not None and thread is not threading.current_thread():
                    thread.join()

    def _steps(self) -> Reading:
        self._issue(self._start + self._ahead)
        for number in range(-(-(self._stop - self._start) // self._batch)):
            self._reader = threading.current_thread()
            self._check()
            slot = self._slots[number]
            while slot.missing:
                self._collect()
            del self._slots[number]
            self._issue(slot.stop + self._ahead)  # before yielding, so that workers prefetch meanwhile
            yield slot.samples

    def _issue(self, limit: int) -> None:
        """Issue tickets for all samples before ``limit`` that have none, with slots for them."""
        while self._issued < min(limit, self._stop):
            start = self._issued
            stop = min(start - start % self._ticket + self._ticket, self._stop)
            numbers = range((start - self._start) // self._batch, (stop - 1 - self._start) // self._batch + 1)
            for number in numbers:
                if number not in self._slots:
                    first = self._start + number * self._batch
                    self._slots[number] = _Slot(self._allocate(first, min(first + self._batch, self._stop)))
            self._tickets.put(_Ticket(start, stop, [self._slots[number] for number in numbers]))
            self._issued = stop

    def _collect(self) -> None:
        """Wait for a worker to finish a ticket, and record it. Polls, so that a signal is noticed while it waits."""
        while True:
            with contextlib.suppress(queue.Empty):
                done = self._done.get(timeout=_POLL_S)
                break
            self._check()
        if isinstance(done, BaseException):
            raise done
        for slot in done.slots:
            slot.missing -= min(done.stop, slot.stop) - max(done.start, slot.start)

    def _work(self) -> None:
        """Run one worker: render tickets until none is left."""
        try:
            with self._open_renderer() as renderer:
                while (ticket := self._next_ticket()) is not None:
                    self._fill(renderer, ticket)
                    self._done.put(ticket)
        except Stopped:
            return
        except BaseException as error:
            self._done.put(error)

    def _next_ticket(self) -> _Ticket | None:
        """Wait for a ticket. None at the end; raises Stopped if there is one but the reader is gone."""
        while True:
            with contextlib.suppress(queue.Empty):
                ticket = self._tickets.get(timeout=_POLL_S)
                if ticket is not None:
                    self._ending.check()
                return ticket
            # At exit the interpreter joins its threads: those of a stream that was never closed must end by themselves.
            if not threading.main_thread().is_alive() and not self._reader.is_alive():
                raise Stopped

    def _fill(self, renderer: Renderer, ticket: _Ticket) -> None:
        first_slot = (ticket.start - self._start) // self._batch
        for batch in renderer.render(ticket.start, ticket.stop):
            at = batch.start
            while at < batch.stop:
                slot = ticket.slots[(at - self._start) // self._batch - first_slot]
                until = min(batch.stop, slot.stop)
                part = batch.rows(at - batch.start, until - batch.start)
                for name, column in slot.samples.columns.items():
                    values = part[name]
                    assert not isinstance(column, Ragged), name
                    assert not isinstance(values, Ragged), name
                    column[at - slot.start : until - slot.start] = values
                at = until
            self._ending.check()
