"""Estimate the time and size of a job by running a small part of it."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.threads import StopSignal, run_threads
from gen_engine.engine.run.criterion import Criterion
from gen_engine.engine.run.job import Job
from gen_engine.engine.run.shard import render_shard
from gen_engine.engine.run.threads import renderers
from gen_engine.engine.run.write import worker_count
from gen_engine.engine.sample.shard import Shard

PROBE_SECONDS = 1.0

_PROBED_BATCHES = 1000
"""Of candidates, at most."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The time and size of a job, extrapolated from a short run."""

    plan: Plan
    workers: int
    bytes_total: int

    samples_per_second: float
    """Measured: all workers at once, for about :data:`PROBE_SECONDS`."""

    acceptance: float | None = None
    """Of a filtered job: the share of the first candidates that pass."""

    candidates_per_second: float | None = None
    """Of a filtered job: how fast candidates are rendered and decided on."""

    @property
    def seconds(self) -> float:
        """Time for the whole job; infinite if no candidate was seen to pass."""
        made = self.plan.count / self.samples_per_second
        if self.acceptance is None or self.candidates_per_second is None:
            return made
        return made + self.plan.count / self.candidates_per_second / max(self.acceptance, 1e-9)


def estimate(job: Job, *, workers: int | None) -> Estimate:
    """Run the job for about a second into a temporary directory and extrapolate."""
    count = worker_count(workers, job.plan.layout.shards)
    probes: list[_Probe] = []
    with tempfile.TemporaryDirectory(prefix="gen-engine-probe-") as scratch, renderers(job, count) as opened:

        def probe(worker: int, renderer: Renderer) -> None:
            probes.append(_probe(job, renderer, Path(scratch), worker))

        run_threads([partial(probe, *numbered) for numbered in enumerate(opened)], StopSignal())
    return Estimate(
        plan=job.plan,
        workers=count,
        bytes_total=round(sum(p.bytes for p in probes) / sum(p.samples for p in probes) * job.plan.count),
        samples_per_second=sum(p.samples / p.seconds for p in probes),
        **({} if job.criterion is None else _probe_criterion(job, job.criterion, count)),
    )


def _probe_criterion(job: Job, criterion: Criterion, workers: int) -> dict[str, float]:
    """Decide on candidates for about :data:`PROBE_SECONDS` on one stream, for an estimate of all."""
    began, scored, passed = time.monotonic(), 0, 0
    with contextlib.closing(job.renderer()) as renderer:
        for batch in renderer.render(0, job.plan.compute.batch * _PROBED_BATCHES):
            passed += int(criterion.keeps(batch).sum())
            scored += len(batch)
            if time.monotonic() - began > PROBE_SECONDS:
                break
    seconds = time.monotonic() - began
    return {"acceptance": passed / scored, "candidates_per_second": workers * scored / seconds}


class _Probe(NamedTuple):
    samples: int
    bytes: int
    seconds: float


def _probe(job: Job, renderer: Renderer, scratch: Path, worker: int) -> _Probe:
    """Write one batch to learn how many samples take :data:`PROBE_SECONDS`, then write that many."""

    def write(samples: int) -> _Probe:
        began = time.monotonic()
        shard = Shard(number=worker, start=0, stop=samples)
        files = render_shard(job, renderer, shard, scratch, lambda _: None).commit()
        seconds = time.monotonic() - began
        for file in files:
            file.temporary.unlink()
        return _Probe(samples, sum(file.bytes for file in files), seconds)

    limit = min(job.plan.shard_size, job.plan.count)
    first = write(min(job.plan.compute.batch, limit))
    return write(max(1, min(limit, round(first.samples * PROBE_SECONDS / first.seconds))))
