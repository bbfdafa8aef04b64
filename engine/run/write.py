"""A sampling job from request to finished dataset: the ledger, an executor, and what the job ends with."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.commit import card
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.commit.preview import SAMPLES, preview
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.plan.shard_set import MissingShards
from gen_engine.engine.run.executor import CommittedShard, Executor, Task
from gen_engine.engine.run.job import Job
from gen_engine.engine.run.processes import ProcessExecutor
from gen_engine.engine.run.threads import ThreadExecutor

MAX_WORKERS = 1024

_log = logging.getLogger(__name__)


class Monitor(Protocol):
    """How a job goes on, for the user. Called from any thread, so it must be quick and thread-safe."""

    def started(self, total: int, done: int, workers: int) -> None:
        """``done`` of ``total`` samples were finished by an earlier run; ``workers`` go on from there."""
        ...

    def rendered(self, samples: int) -> None:
        """So many more samples were rendered."""
        ...

    def committed(self, samples: int, size: int) -> None:
        """A shard of so many samples and bytes is finished."""
        ...

    def message(self, text: str) -> None:
        """Something the user should know and need not act on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job did."""

    out: str | Path
    samples: int
    """Of this part of the job; of all of it, if it is not cut up."""

    bytes: int
    """Of the same samples."""

    rendered: int
    """Samples made by this run; the rest was there."""

    seconds: float
    """Wall-clock time of the run, opening and finishing included."""

    plan: Plan
    part: Part

    unfinished: MissingShards | None
    """What the dataset still waits for; None if it is finished."""


@dataclass(frozen=True)
class Draft:
    """What a job ends with besides its shards and its preview, from its bundle and format. Can be pickled."""

    card: str
    index: Mapping[str, Any] | None
    """What the format's index says besides the shards; None for a format without one."""


def write_dataset(
    job: Job,
    out: str | Path,
    *,
    workers: int | None,
    part: Part = WHOLE,
    monitor: Monitor,
    devices: Sequence[str] = (),
) -> Outcome:
    """Run a job, or one part of it, into a place, or go on with it there.

    Args:
        job: what to do.
        out: the dataset's directory or URL.
        workers: threads that run shards, 1 to :data:`MAX_WORKERS`; None for one per processor. Cannot change a byte.
        part: which shards to make. The part that makes the last one finishes the dataset.
        monitor: told how it goes.
        devices: where to run, if they are several: one worker process per device, with the threads shared out among
            them. They must be of the job's kind, and cannot change a byte: one that would is refused.

    Raises:
        OutputError: the place is refused, or a write failed; what is finished stays.
        BackendError: the generator failed, or a worker process ended.
        BackendUnavailable: a device cannot be opened, or makes other bytes than the job's.
        KeyboardInterrupt: passed on after the workers have stopped; the same call resumes.
    """
    return run_task(
        Task.of(job),
        partial(local_executor, job, devices),
        out,
        draft=make_draft(job),
        draw=partial(draw_preview, job),
        workers=worker_count(workers, len(part.shards(job.plan.layout.shards))),
        part=part,
        monitor=monitor,
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
) -> Outcome:
    """Run a task's shards by any executor. Needs neither the device nor its runtime in this process.

    Args:
        task: which shards there are, and what workers open.
        executor: makes the executor for so many workers.
        out: the dataset's directory or URL, which workers see as well.
        draft: what the job ends with.
        draw: returns the preview, a PNG; called unless an earlier run has written it.
        workers: how many run at most.
        part: which shards to make.
        monitor: told how it goes.

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
        if not ledger.complete:
            ledger.prepare(draft.card, draft.index, draw)
            if ledger.left:
                run = executor(min(workers, ledger.left)).run
                run(task, ledger.committer, ledger.todo(), _Progress(ledger, monitor))
        return Outcome(
            out=out,
            samples=total,
            bytes=ledger.bytes_done,
            rendered=left,
            seconds=time.monotonic() - began,
            plan=plan,
            part=part,
            unfinished=None if ledger.complete else ledger.finish(),
        )


def local_executor(job: Job, devices: Sequence[str], workers: int) -> Executor:
    """Return what runs a job on this machine: worker processes for several devices, else threads of this process."""
    if len(devices) > 1 and workers > 1:
        return ProcessExecutor(devices, workers)
    return ThreadExecutor(workers, job)


def make_draft(job: Job) -> Draft:
    """Return what a job ends with, while its bundle is at hand."""
    return Draft(
        card=card.readme(job.plan, job.bundle, job.format),
        index=job.format.index_head(job.plan.layout, job.codec),
    )


def draw_preview(job: Job) -> bytes:
    """Return a PNG of a job's first samples."""
    shown = min(job.plan.count, SAMPLES)
    with contextlib.closing(job.renderer()) as renderer:
        return preview(renderer.render(0, shown), job.plan.layout.schema)


def worker_count(workers: int | None, shards: int) -> int:
    """Return how many workers to run: as requested or one per processor, and no more than there are shards."""
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise RequestError(
            f"workers {workers}: it must be between 1 and {MAX_WORKERS}; leave it out for one per processor"
        )
    return max(1, min(workers or usable_cpus(), shards))  # a part may have none


@dataclass(frozen=True)
class _Progress:
    """Enters committed shards into the ledger, and passes progress on to the monitor."""

    ledger: Ledger
    monitor: Monitor

    def rendered(self, samples: int) -> None:
        self.monitor.rendered(samples)

    def committed(self, shard: CommittedShard) -> None:
        self.ledger.note_commit(shard.number, shard.bytes)
        self.monitor.committed(shard.samples, shard.bytes)
