"""Write an adversarial set through the engine's ledger: shard by shard, resumable, with the same bytes every time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.plan.derived import Value
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.reader import Dataset, open_manifest
from gen_engine.engine.render.threads import StopSignal, run_threads
from gen_engine.engine.run.preview import SAMPLES, preview
from gen_engine.engine.run.shard import aborted_on_error, memory_limit
from gen_engine.engine.run.write import Monitor, worker_count
from gen_engine.engine.sample.schema import Batch
from gen_engine.engine.sinks import open_reader
from gen_engine.engine.verify import hash_files
from gen_engine.engine.writers.contract import Format, ShardWriter
from gen_engine.evaluate.attack.card import attack_card
from gen_engine.evaluate.attack.classifier import Classifier
from gen_engine.evaluate.attack.measure import Tally, measure_batch
from gen_engine.evaluate.attack.perturb import Attack
from gen_engine.evaluate.attack.plan import Storage, attack_plan, checked_classifier
from gen_engine.evaluate.attack.settings import AttackSettings
from gen_engine.evaluate.attack.source import Source, check_apart, labels_of


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """The result of an attack."""

    out: str | Path
    samples: int
    made: int
    """Samples changed by this run; the others existed already."""

    bytes: int
    seconds: float
    plan: Plan
    figures: dict[str, Value]
    """``accuracy_before`` and ``accuracy_after``, ``largest_change`` of 255, ``unchanged_samples``."""


def attack_dataset(
    source: Source,
    classifier: Classifier,
    settings: AttackSettings,
    out: str | Path,
    *,
    storage: Storage = Storage(),  # noqa: B008  # it is frozen
    workers: int | None = None,
    monitor: Monitor,
) -> Attacked:
    """Write a dataset of changed samples with their original labels, or resume it.

    Args:
        source: the original samples, whose files are hashed first.
        classifier: what the attack leads astray.
        settings: the attack.
        out: the directory or URL of the new dataset.
        storage: how it is stored.
        workers: threads; None for one per processor. Does not affect the bytes.
        monitor: receives progress and messages.

    Raises:
        RequestError: the classifier does not fit the dataset, fails or has no gradient; or an option is out of range.
        DatasetError, VerifyError: the original is damaged.
        OutputError: the output is refused, or a write failed; the same call resumes.
        KeyboardInterrupt: passed on after the workers have stopped; the same call resumes.
    """
    began = time.monotonic()
    check_apart(source.place, out)
    hash_files(source.place, lambda _: None)
    with _single_threaded_kernels(), contextlib.closing(source):
        classifier = checked_classifier(source, classifier, settings, monitor.message)
        first = attacked(source, Attack(classifier, settings), 0)
        plan, form, codec = attack_plan(source, classifier, settings, storage, first)
        job = _Job(source, classifier, settings, plan, form, codec, first)
        with Ledger(out, plan) as ledger:
            for damage in ledger.damage:
                monitor.message(str(damage))
            left = 0 if ledger.complete else plan.count - plan.samples_in(ledger.done)
            if ledger.complete:
                figures = dict(open_manifest(out)[1].figures or {})
            else:
                _make_shards(job, ledger, workers, monitor, plan.count - left)
                figures = _finish(job, ledger, out, workers)
            size = ledger.bytes_done
    seconds = time.monotonic() - began
    return Attacked(out=out, samples=plan.count, made=left, bytes=size, seconds=seconds, plan=plan, figures=figures)


@dataclass(frozen=True)
class _Job:
    """What the threads share, but for the source and the classifier, of which each has its own."""

    source: Source
    classifier: Classifier
    settings: AttackSettings
    plan: Plan
    format: Format
    codec: Codec
    first: Batch = field(repr=False)
    """Batch 0, changed: it was computed for the plan."""

    @property
    def batches(self) -> int:
        return -(-self.plan.count // self.settings.batch)

    def for_threads(self, count: int) -> list[_Job]:
        """Return a job for each thread."""
        more = [
            replace(self, source=self.source.again(), classifier=self.classifier.copied()) for _ in range(count - 1)
        ]
        return [self, *more]


def attacked(source: Source, attack: Attack, number: int) -> Batch:
    """Return a batch of the grid, changed."""
    batch = source.batch(number, attack.settings.batch)
    images: NDArray[Any] = np.asarray(batch[source.image.name])
    changed = attack(images, labels_of(batch), batch.start)
    return Batch(batch.start, {**batch.columns, source.image.name: changed})


def _make_shards(job: _Job, ledger: Ledger, workers: int | None, monitor: Monitor, done: int) -> None:
    todo, stop = deque(ledger.todo()), StopSignal()
    count = worker_count(workers, len(todo))
    monitor.started(job.plan.count, done, count)

    def work(own: _Job) -> None:
        attack = Attack(own.classifier, own.settings)
        with _one_thread(), contextlib.closing(own.source):
            for number in _shared(todo, stop):
                _make_shard(own, attack, ledger, number, monitor, stop)

    run_threads([partial(work, own) for own in job.for_threads(count)] if todo else [], stop)


def _make_shard(job: _Job, attack: Attack, ledger: Ledger, number: int, monitor: Monitor, stop: StopSignal) -> None:
    shard, size = job.plan.shard(number), job.settings.batch
    with memory_limit(shard):
        writer: ShardWriter = job.format.open(ledger.scratch, job.plan.layout, shard, job.codec)
        with aborted_on_error(writer):
            for at in range(shard.start // size, -(-shard.stop // size)):
                batch = job.first if at == 0 else attacked(job.source, attack, at)
                rows = batch.rows(max(0, shard.start - batch.start), min(len(batch), shard.stop - batch.start))
                writer.append(rows)
                monitor.rendered(len(rows))
                stop.check()
            files = writer.commit()
            ledger.commit(number, files)
    monitor.committed(shard.stop - shard.start, sum(file.bytes for file in files))


def _finish(job: _Job, ledger: Ledger, out: str | Path, workers: int | None) -> dict[str, Value]:
    """Measure the stored samples, and write the card, the preview and the manifest.

    The draft is written now and not at the beginning, since the card states what was measured. Without a draft
    ``gen-engine finish`` refers to the command, and so no card is without its figures.
    """
    changed = Dataset(open_reader(out), job.plan)
    with contextlib.closing(changed):
        tally = _measured(job, out, usable_cpus() if workers is None else workers)
        card = attack_card(job.plan, job.format, job.classifier, job.settings, tally)
        index = job.format.index_head(job.plan.layout, job.codec)

        def draw() -> bytes:
            shown = changed.iter_batches(SAMPLES, stop=min(SAMPLES, job.plan.count))
            return preview(shown, job.plan.layout.schema)

        ledger.prepare(card, index, draw, tally.figures())
    ledger.finish()
    return tally.figures()


def _measured(job: _Job, out: str | Path, workers: int) -> Tally:
    todo, stop, found = deque(range(job.batches)), StopSignal(), deque[Tally]()

    def work(own: _Job) -> None:
        stored = Dataset(open_reader(out), job.plan)
        with _one_thread(), contextlib.closing(own.source), contextlib.closing(stored):
            changed = Source(out, "", stored)
            for number in _shared(todo, stop):
                found.append(measure_batch(own.source, changed, own.classifier, own.settings, number))

    run_threads([partial(work, own) for own in job.for_threads(max(1, min(workers, job.batches)))], stop)
    return sum(found, Tally())


def _shared(todo: deque[int], stop: StopSignal) -> Iterator[int]:
    """Yield numbers that several threads share, each going to one of them."""
    while True:
        stop.check()
        try:
            number = todo.popleft()
        except IndexError:
            return
        yield number


@contextlib.contextmanager
def _single_threaded_kernels() -> Iterator[None]:
    """Compute every operator on one thread: sums over several are rounded by how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The same in a thread of its own, since OpenMP keeps the number by thread."""
    import torch

    torch.set_num_threads(1)
    yield
