"""A sampling job from request to finished dataset: shards over lanes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.commit import card
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.commit.preview import SAMPLES, preview
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.plan.shard_set import MissingShards
from gen_engine.engine.render.lanes import Behind, StopSignal, run_lanes
from gen_engine.engine.run.job import Job
from gen_engine.engine.run.shards import Render, Rendered, aborted_on_error, shard_renderers
from gen_engine.engine.sample.shard import Shard

MAX_WORKERS = 1024


class Monitor(Protocol):
    """Hears how a job goes on. Called from any lane, so it must be quick and thread-safe."""

    def started(self, total: int, done: int, lanes: int) -> None:
        """``done`` of ``total`` samples were finished by an earlier run; ``lanes`` lanes go on from there."""
        ...

    def rendered(self, samples: int) -> None:
        """So many more samples were rendered."""
        ...

    def committed(self, samples: int, size: int) -> None:
        """A shard of so many samples and bytes is finished."""
        ...

    def note(self, message: str) -> None:
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
        workers: lanes that run in parallel, 1 to :data:`MAX_WORKERS`; None for one a processor. Cannot change a byte.
        part: which shards to make. The part that makes the last one finishes the dataset.
        monitor: hears how it goes.
        devices: where to run, a process each, if they are several; the lanes are shared out among them. They must be
            of the job's kind, and cannot change a byte: one that would is refused.

    Raises:
        OutputError: the place is refused, or a write failed; what is finished stays.
        BackendError: the generator failed, or a device's process ended.
        BackendUnavailable: a device cannot be opened, or makes other bytes than the job's.
        KeyboardInterrupt: passed on after the lanes have stopped; the same call resumes.
    """
    began = time.monotonic()
    lanes = lane_count(workers, len(part.shards(job.plan.layout.shards)))
    with Ledger(out, job.plan, part) as ledger:
        for damage in ledger.damage:
            monitor.note(str(damage))
        total = job.plan.samples(part)
        left = 0 if ledger.complete else total - job.plan.samples_in(ledger.done)
        monitor.started(total, total - left, lanes)
        unfinished = None if ledger.complete else _go_on(job, ledger, lanes, monitor, devices)
        return Outcome(
            out=out,
            samples=total,
            bytes=ledger.bytes_done,
            rendered=left,
            seconds=time.monotonic() - began,
            plan=job.plan,
            part=part,
            unfinished=unfinished,
        )


def _go_on(job: Job, ledger: Ledger, lanes: int, monitor: Monitor, devices: Sequence[str]) -> MissingShards | None:
    _prepare(job, ledger)
    _write_shards(job, ledger, lanes, monitor, devices)
    return ledger.finish()


def _write_shards(job: Job, ledger: Ledger, lanes: int, monitor: Monitor, devices: Sequence[str]) -> None:
    stop = StopSignal()

    def work_on(render: Render, behind: Behind) -> Callable[[int], None]:
        def heard(samples: int) -> None:
            monitor.rendered(samples)
            stop.check()

        def commit(shard: Shard, rendered: Rendered) -> None:
            with aborted_on_error(rendered):
                files = rendered.commit()
            ledger.commit(shard.number, files)
            monitor.committed(_size(shard), sum(file.bytes for file in files))

        def work(number: int) -> None:
            shard = job.plan.shard(number)
            rendered = render(shard, heard)
            with aborted_on_error(rendered):
                behind.run(lambda: commit(shard, rendered))

        return work

    with (
        shard_renderers(job, ledger.scratch, min(lanes, ledger.left), devices) as opened,
        contextlib.ExitStack() as commits,
    ):
        behinds = [Behind(stop) for _ in opened]
        for behind in behinds:
            commits.callback(behind.wait)  # whatever becomes of the lanes, no commit outlives the job
        run_lanes([work_on(*pair) for pair in zip(opened, behinds, strict=True)], ledger.todo(), stop)


def _prepare(job: Job, ledger: Ledger) -> None:
    """Settle all that the job ends with while the bundle and the backend are at hand."""

    def draw() -> bytes:
        shown = min(job.plan.count, SAMPLES)
        with contextlib.closing(job.renderer()) as renderer:
            return preview(renderer.render(0, shown), job.plan.layout.schema)

    index = job.format.index_head(job.plan.layout, job.codec)
    ledger.prepare(card.readme(job.plan, job.bundle, job.format), index, draw)


def lane_count(workers: int | None, shards: int) -> int:
    """Return how many lanes to run: as asked or one a processor, and no more than there are shards."""
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise RequestError(
            f"workers {workers}: it must be between 1 and {MAX_WORKERS}; leave it out for one a processor"
        )
    return max(1, min(workers or usable_cpus(), shards))  # a part may have none


def _size(shard: Shard) -> int:
    return shard.stop - shard.start
