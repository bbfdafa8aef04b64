"""Run a sampling job from request to finished dataset: the ledger, an executor, and the dataset's metadata."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gen_engine.engine import native
from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.commit.records import FileRecord
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.derived import Value
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.plan.shard_set import MissingShards
from gen_engine.engine.run import card
from gen_engine.engine.run.executor import CommittedShard, Executor, Task
from gen_engine.engine.run.job import Job
from gen_engine.engine.run.preview import SAMPLES, preview
from gen_engine.engine.run.processes import ProcessExecutor
from gen_engine.engine.run.scan import Selection, selection
from gen_engine.engine.run.threads import ThreadExecutor

MAX_WORKERS = 1024

_LARGE = 1_000_000
"""Samples above which a job says that the compiled core is missing."""

_log = logging.getLogger(__name__)


class Monitor(Protocol):
    """Callbacks for a job's progress. Called from any thread, so they must be quick and thread-safe."""

    def started(self, total: int, done: int, workers: int) -> None:
        """``done`` of ``total`` samples were finished by an earlier run; ``workers`` continue from there."""
        ...

    def rendered(self, samples: int) -> None:
        """``samples`` more samples were rendered."""
        ...

    def committed(self, samples: int, size: int) -> None:
        """A shard of ``samples`` samples and ``size`` bytes is finished."""
        ...

    def message(self, text: str) -> None:
        """A message for the user that needs no action."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a job."""

    out: str | Path
    samples: int
    """Of this part of the job; of the whole job if it is not partitioned."""

    bytes: int
    """Of the same samples."""

    rendered: int
    """Samples made by this run; the others existed already."""

    seconds: float
    """Wall-clock time of the run, including opening and finishing."""

    implementation: str
    """What stored the samples here: ``native`` or ``numpy``. It does not affect their bytes."""

    plan: Plan
    part: Part

    unfinished: MissingShards | None
    """The parts or shards that are still missing; None if the dataset is finished."""

    figures: Mapping[str, Value] | None = None
    """The acceptance of a filtered job; None for others."""


@dataclass(frozen=True)
class Draft:
    """The dataset's metadata besides its shards and preview, from the bundle and format. Can be pickled."""

    card: str
    index: Mapping[str, Any] | None
    """The content of the format's index besides the shards; None for a format without one."""

    figures: Mapping[str, Value] | None = None
    """The acceptance of a filtered job."""

    selection: FileRecord | None = None
    """Its ``filter.bits``."""


class Started(NamedTuple):
    """What a filtered job is run with, once its samples are known among its candidates."""

    draft: Draft
    draw: Callable[[], bytes]
    executor: Callable[[int], Executor]


def write_dataset(
    job: Job,
    out: str | Path,
    *,
    workers: int | None,
    part: Part = WHOLE,
    monitor: Monitor,
    devices: Sequence[str] = (),
    accept: Callable[[], str] | None = None,
) -> Outcome:
    """Run a job, or one part of it, into an output, or resume it there.

    Args:
        job: what to do.
        out: the dataset's directory or URL.
        workers: threads that run shards, 1 to :data:`MAX_WORKERS`; None for one per processor. Does not affect the
            bytes.
        part: which shards to make. The part that makes the last one finishes the dataset.
        monitor: receives progress and messages.
        devices: where to run, if several: one worker process per device, with the threads divided among them. They
            must be of the job's kind and do not affect the bytes: a device that would is refused.
        accept: is called when all shards exist, and decides whether they become a dataset: it returns a section for
            the card, or raises GateFailed.

    Raises:
        OutputError: the output is refused, or a write failed; finished shards are kept.
        BackendError: the generator failed, or a worker process ended.
        BackendUnavailable: a device cannot be opened, or makes different bytes.
        KeyboardInterrupt: passed on after the workers have stopped; the same call resumes.
    """
    if job.plan.quota is not None and len(devices) > 1:
        raise RequestError(
            f"a filter or conditions with {len(devices)} devices: one process decides which candidates pass; give one "
            "--device, and run one --part per device"
        )
    with contextlib.ExitStack() as held:
        return run_task(
            Task.of(job),
            partial(local_executor, job, devices),
            out,
            draft=make_draft(job),
            draw=partial(draw_preview, job),
            workers=worker_count(workers, len(part.shards(job.plan.layout.shards))),
            part=part,
            monitor=monitor,
            accept=accept,
            select=None if job.plan.quota is None else partial(_select, job, held, workers, monitor),
        )


def _select(job: Job, held: contextlib.ExitStack, workers: int | None, monitor: Monitor, ledger: Ledger) -> Started:
    """Make the first pass of a filtered job; ``held`` keeps what it selected until the job ends."""
    threads = worker_count(workers, MAX_WORKERS)
    selected = held.enter_context(selection(job, ledger, threads, monitor.message))
    job = replace(job, accepted=selected.accepted)
    return Started(
        make_draft(job, selected),
        partial(draw_preview, job),
        lambda workers: ThreadExecutor(workers, job),
    )


def run_task(
    task: Task,
    executor: Callable[[int], Executor],
    out: str | Path,
    *,
    draft: Draft,
    draw: Callable[[], bytes],
    workers: int,
    part: Part,
    monitor: Monitor,
    accept: Callable[[], str] | None = None,
    select: Callable[[Ledger], Started] | None = None,
) -> Outcome:
    """Run a task's shards by any executor. Needs neither the device nor its runtime in this process.

    Args:
        task: defines the shards, and what workers open.
        executor: makes an executor for a number of workers.
        out: the dataset's directory or URL, which workers see as well.
        draft: the dataset's metadata.
        draw: returns the preview, a PNG; called unless an earlier run has written it.
        workers: maximum number that run.
        part: which shards to make.
        monitor: receives progress and messages.
        accept: decides whether the complete job may be finished; see :meth:`Ledger.judge`.
        select: of a filtered job, returns what takes the place of its draft, preview and executor.

    Raises:
        EngineError: as :func:`write_dataset`.
    """
    began, plan = time.monotonic(), task.plan
    with Ledger(out, plan, part) as ledger:
        for damage in ledger.damage:
            monitor.message(str(damage))
        total = plan.samples(part)
        left = 0 if ledger.complete else total - plan.samples_in(ledger.done)
        _log.info("part %s of %s: %d shards are left, at most %d workers", part, out, ledger.left, workers)
        monitor.started(total, total - left, workers)
        if left > _LARGE and (fault := native.found().fault) is not None:
            monitor.message(f"without the compiled core samples are stored several times more slowly; {fault}")
        if not ledger.complete:
            if select is not None:
                draft, draw, executor = select(ledger)
            ledger.prepare(draft.card, draft.index, draw, draft.figures, draft.selection)
            if ledger.left:
                run = executor(min(workers, ledger.left)).run
                run(task, ledger.committer, ledger.todo(), _Progress(ledger, monitor))
        unfinished = None
        if not ledger.complete:
            ledger.judge(accept)
            unfinished = ledger.finish()
        elif accept is not None:
            monitor.message(
                "the dataset was finished already, so the gate did not judge it; 'gen-engine evaluate' does"
            )
        return Outcome(  # whose seconds include the finish
            out=out,
            samples=total,
            bytes=ledger.bytes_done,
            rendered=left,
            seconds=time.monotonic() - began,
            implementation=native.implementation(),
            plan=plan,
            part=part,
            unfinished=unfinished,
            figures=ledger.figures if ledger.complete else draft.figures,
        )


def local_executor(job: Job, devices: Sequence[str], workers: int) -> Executor:
    """Return an executor for this machine: worker processes for several devices, otherwise threads of this process."""
    if len(devices) > 1 and workers > 1:
        return ProcessExecutor(devices, workers)
    return ThreadExecutor(workers, job)


def make_draft(job: Job, selected: Selection | None = None) -> Draft:
    """Return the dataset's metadata, which needs the opened bundle; of a filtered job, what was selected as well."""
    acceptance = None if selected is None else card.acceptance(selected.drawn, selected.kept)
    return Draft(
        card=card.readme(job.plan, job.bundle, job.format, acceptance),
        index=job.format.index_head(job.plan.layout, job.codec),
        figures=None if selected is None else selected.figures(),
        selection=None if selected is None else selected.record,
    )


def draw_preview(job: Job) -> bytes:
    """Return a PNG of a job's first samples."""
    shown = min(job.plan.count, SAMPLES)
    with contextlib.closing(job.renderer()) as renderer:
        return preview(renderer.render(0, shown), job.plan.layout.schema)


def worker_count(workers: int | None, shards: int) -> int:
    """Return the number of workers: as requested or one per processor, but at most one per shard."""
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise RequestError(
            f"workers {workers}: it must be between 1 and {MAX_WORKERS}; leave it out for one per processor"
        )
    return max(1, min(workers or usable_cpus(), shards))  # a part may have none


@dataclass(frozen=True)
class _Progress:
    """Records committed shards in the ledger, and passes progress to the monitor."""

    ledger: Ledger
    monitor: Monitor

    def rendered(self, samples: int) -> None:
        self.monitor.rendered(samples)

    def committed(self, shard: CommittedShard) -> None:
        self.ledger.note_commit(shard.number, shard.bytes)
        self.monitor.committed(shard.samples, shard.bytes)
