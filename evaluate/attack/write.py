"""Write an adversarial set through the engine's ledger: shard by shard, resumable, with the same bytes every time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.plan.derived import Value
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.reader import Dataset, open_manifest
from gen_engine.engine.render.threads import StopSignal, run_threads
from gen_engine.engine.run.derive import (
    Batches,
    Derivation,
    Storage,
    Stored,
    Written,
    shared,
    write_derived,
)
from gen_engine.engine.run.preview import SAMPLES, preview
from gen_engine.engine.run.write import Monitor
from gen_engine.engine.sample.schema import Batch
from gen_engine.engine.sinks import open_reader
from gen_engine.engine.sinks.apart import check_apart
from gen_engine.engine.verify import hash_files
from gen_engine.evaluate.attack.card import attack_card
from gen_engine.evaluate.attack.classifier import Classifier
from gen_engine.evaluate.attack.measure import Tally, measure_batch
from gen_engine.evaluate.attack.perturb import Attack
from gen_engine.evaluate.attack.plan import attack_plan, checked_classifier
from gen_engine.evaluate.attack.settings import AttackSettings
from gen_engine.evaluate.attack.source import Source, labels_of
from gen_engine.evaluate.one_thread import one_thread, single_threaded_kernels


@dataclass(frozen=True, kw_only=True)
class Attacked(Written):
    """The result of an attack."""

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
    with single_threaded_kernels(), contextlib.closing(source):
        classifier = checked_classifier(source, classifier, settings, monitor.message)
        first = attacked(source, Attack(classifier, settings), 0)
        plan, stored = attack_plan(source, classifier, settings, storage, first)
        job = _Job(source, classifier, settings, plan, stored)
        written = write_derived(
            Derivation(plan=plan, stored=stored, batch=settings.batch, first=first, threads=job.attackers),
            out,
            workers=workers,
            monitor=monitor,
            after=partial(_prepare, job, out, workers),
        )
    figures = dict(open_manifest(out)[1].figures or {})
    result = {name: getattr(written, name) for name in ("out", "samples", "made", "bytes", "plan")}
    return Attacked(**result, seconds=time.monotonic() - began, figures=figures)


@dataclass(frozen=True)
class _Job:
    """What the threads share, but for the source and the classifier, of which each has its own."""

    source: Source
    classifier: Classifier
    settings: AttackSettings
    plan: Plan
    stored: Stored

    @property
    def batches(self) -> int:
        return -(-self.plan.count // self.settings.batch)

    def for_threads(self, count: int) -> list[_Job]:
        """Return a job for each thread."""
        more = [
            replace(self, source=self.source.again(), classifier=self.classifier.copied()) for _ in range(count - 1)
        ]
        return [self, *more]

    def attackers(self, count: int) -> list[contextlib.AbstractContextManager[Batches]]:
        """Return what each thread changes batches with."""
        return [_attacking(own) for own in self.for_threads(count)]


@contextlib.contextmanager
def _attacking(own: _Job) -> Iterator[Batches]:
    with one_thread(), contextlib.closing(own.source):
        yield partial(attacked, own.source, Attack(own.classifier, own.settings))


def attacked(source: Source, attack: Attack, number: int) -> Batch:
    """Return a batch of the grid, changed."""
    batch = source.batch(number, attack.settings.batch)
    images: NDArray[Any] = np.asarray(batch[source.image.name])
    changed = attack(images, labels_of(batch), batch.start)
    return Batch(batch.start, {**batch.columns, source.image.name: changed})


def _prepare(job: _Job, out: str | Path, workers: int | None, ledger: Ledger) -> None:
    """Measure the stored samples, and write the draft of card, preview and manifest.

    The draft is written now and not at the beginning, since the card states what was measured. Without a draft
    ``gen-engine finish`` refers to the command, and so no card is without its figures.
    """
    changed = Dataset(open_reader(out), job.plan)
    with contextlib.closing(changed):
        tally = _measured(job, out, usable_cpus() if workers is None else workers)
        form, layout = job.stored.format, job.plan.layout
        card = attack_card(job.plan, form, job.classifier, job.settings, tally)

        def draw() -> bytes:
            shown = changed.iter_batches(SAMPLES, stop=min(SAMPLES, job.plan.count))
            return preview(shown, layout.schema)

        ledger.prepare(card, form.index_head(layout, job.stored.codec), draw, tally.figures())


def _measured(job: _Job, out: str | Path, workers: int) -> Tally:
    todo, stop, found = deque(range(job.batches)), StopSignal(), deque[Tally]()

    def work(own: _Job) -> None:
        stored = Dataset(open_reader(out), job.plan)
        with one_thread(), contextlib.closing(own.source), contextlib.closing(stored):
            changed = Source(out, "", stored)
            for number in shared(todo, stop):
                found.append(measure_batch(own.source, changed, own.classifier, own.settings, number))

    run_threads([partial(work, own) for own in job.for_threads(max(1, min(workers, job.batches)))], stop)
    return sum(found, Tally())
