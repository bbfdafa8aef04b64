"""Estimate the time and size of a job by running a small part of it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.threads import StopSignal, run_threads
from gen_engine.engine.run.job import Job
from gen_engine.engine.run.shard import render_shard
from gen_engine.engine.run.threads import renderers
from gen_engine.engine.run.write import worker_count
from gen_engine.engine.sample.shard import Shard

PROBE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The time and size of a job, extrapolated from a short run."""

    plan: Plan
    workers: int
    bytes_total: int

    samples_per_second: float
    """Measured: all workers at once, for about :data:`PROBE_SECONDS`."""

    @property
    def seconds(self) -> float:
        """Time for the whole job."""
        return self.plan.count / self.samples_per_second


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
    )


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
