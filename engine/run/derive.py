"""Write samples that are computed from others through the ledger: shard by shard, with the same bytes every time.

What computes them is the caller's: it returns batches by their number on one grid from sample 0 on, whatever the shards
and the threads are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gen_engine.engine.codecs import open_codec
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.plan import Plan, shard_count
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.render.threads import StopSignal, run_threads
from gen_engine.engine.run.shard import aborted_on_error, memory_limit
from gen_engine.engine.run.shard_size import resolve_shard_size
from gen_engine.engine.run.write import Monitor, worker_count
from gen_engine.engine.sample.schema import Batch, Layout, Schema
from gen_engine.engine.writers import open_format
from gen_engine.engine.writers.contract import Format, ShardWriter
from gen_engine.engine.writers.shard import is_encoded

Batches: TypeAlias = Callable[[int], Batch]
"""Number of a batch on the grid → the batch. The last one may have fewer samples."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How derived samples are stored; None for the defaults."""

    format: str | None = None
    codec: str | None = None
    """How the formats other than npy hold an image."""

    shard_size: int | None = None
    """Samples per shard."""


@dataclass(frozen=True)
class Stored:
    """A storage with every choice made."""

    format: Format
    codec: Codec
    layout: Layout
    shard_size: int

    def planned(self) -> dict[str, Any]:
        """Return the fields of a plan that it determines."""
        return {
            "layout": self.layout,
            "format": self.format.name,
            "format_id": self.format.identity,
            "codec_id": None if self.format.holds_arrays else self.codec.identity,
            "shard_size": self.shard_size,
            "shard_bytes": None,
        }


def resolve_storage(storage: Storage, schema: Schema, first: Batch, count: int, *, default_format: str) -> Stored:
    """Return how ``count`` samples are stored.

    Args:
        storage: what was requested.
        schema: their fields.
        first: their first batch.
        count: how many there are.
        default_format: the format if none was requested.

    Raises:
        RequestError: the format or the codec cannot hold such samples, or a number is out of range.
        WriterUnavailable: a library of theirs is not installed.
    """
    form = open_format(storage.format or default_format)
    if form.holds_arrays and storage.codec not in (None, "raw"):
        raise RequestError(
            f"codec {storage.codec!r}: format {form.name} holds arrays, not encoded files; leave --codec out"
        )
    codec = open_codec("raw" if form.holds_arrays else storage.codec or "png")
    one_shard = Layout(schema=schema, shards=1)
    form.check(one_shard)
    for one in schema:
        if not form.holds_arrays and is_encoded(one, codec):
            codec.encode(np.asarray(first[one.name])[:1])  # refuses what it cannot hold
    request = SampleRequest(count=count, format=form.name, shard_size=storage.shard_size)
    shard_size = resolve_shard_size(request, form, codec, one_shard, first)
    return Stored(form, codec, Layout(schema=schema, shards=shard_count(count, shard_size)), shard_size)


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """A job that computes samples from others."""

    plan: Plan
    stored: Stored
    batch: int
    """Samples of a batch of the grid."""

    first: Batch = field(repr=False)
    """Batch 0, which was computed for the plan."""

    threads: Callable[[int], Sequence[AbstractContextManager[Batches]]]
    """Number of threads → what each of them opens, and computes batches with."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """The result of a job that computes samples from others."""

    out: str | Path
    samples: int
    made: int
    """Samples made by this run; the others existed already."""

    bytes: int
    seconds: float
    plan: Plan


def write_derived(
    job: Derivation,
    out: str | Path,
    *,
    workers: int | None = None,
    monitor: Monitor,
    before: Callable[[Ledger], None] = lambda ledger: None,
    after: Callable[[Ledger], None] = lambda ledger: None,
) -> Written:
    """Write a dataset of computed samples, or resume it.

    Args:
        job: what to do.
        out: the directory or URL of the new dataset.
        workers: threads; None for one per processor. Does not affect the bytes.
        monitor: receives progress and messages.
        before: is called before the first shard is made, and ``after`` when all of them exist, unless the job is
            finished; one of them calls :meth:`Ledger.prepare`.
        after: see ``before``.

    Raises:
        OutputError: the output is refused, or a write failed; the same call resumes.
        KeyboardInterrupt: passed on after the workers have stopped; the same call resumes.
    """
    began = time.monotonic()
    with Ledger(out, job.plan) as ledger:
        for damage in ledger.damage:
            monitor.message(str(damage))
        left = 0 if ledger.complete else job.plan.count - job.plan.samples_in(ledger.done)
        if not ledger.complete:
            before(ledger)
            _make_shards(job, ledger, workers, monitor, job.plan.count - left)
            after(ledger)
            ledger.finish()
        size = ledger.bytes_done
    seconds = time.monotonic() - began
    return Written(out=out, samples=job.plan.count, made=left, bytes=size, seconds=seconds, plan=job.plan)


def _make_shards(job: Derivation, ledger: Ledger, workers: int | None, monitor: Monitor, done: int) -> None:
    todo, stop = deque(ledger.todo()), StopSignal()
    count = worker_count(workers, len(todo))
    monitor.started(job.plan.count, done, count)

    def work(own: AbstractContextManager[Batches]) -> None:
        with own as batches:
            for number in shared(todo, stop):
                _make_shard(job, batches, ledger, number, monitor, stop)

    run_threads([partial(work, own) for own in job.threads(count)] if todo else [], stop)


def _make_shard(
    job: Derivation, batches: Batches, ledger: Ledger, number: int, monitor: Monitor, stop: StopSignal
) -> None:
    shard, size, stored = job.plan.shard(number), job.batch, job.stored
    with memory_limit(shard):
        writer: ShardWriter = stored.format.open(ledger.scratch, job.plan.layout, shard, stored.codec)
        with aborted_on_error(writer):
            for at in range(shard.start // size, -(-shard.stop // size)):
                batch = job.first if at == 0 else batches(at)
                rows = batch.rows(max(0, shard.start - batch.start), min(len(batch), shard.stop - batch.start))
                writer.append(rows)
                monitor.rendered(len(rows))
                stop.check()
            files = writer.commit()
            ledger.commit(number, files)
    monitor.committed(shard.stop - shard.start, sum(file.bytes for file in files))


def shared(todo: deque[int], stop: StopSignal) -> Iterator[int]:
    """Yield numbers that several threads share, each going to one of them."""
    while True:
        stop.check()
        try:
            number = todo.popleft()
        except IndexError:
            return
        yield number
