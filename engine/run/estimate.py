"""What a job would take, by doing a little of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.render.lanes import StopSignal, run_lanes
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.run.job import Job
from gen_engine.engine.run.shards import renderers, write_shard
from gen_engine.engine.run.write import lane_count
from gen_engine.engine.sample.shard import Shard

PROBE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a job would take, from a short run of it."""

    plan: Plan
    lanes: int
    bytes_total: int

    samples_a_second: float
    """Measured: all lanes at once, for about :data:`PROBE_SECONDS`."""

    @property
    def seconds(self) -> float:
        """Time for the whole job."""
        return self.plan.count / self.samples_a_second


def estimate(job: Job, *, workers: int | None) -> Estimate:
    """Run the job for about a second into a temporary directory and extrapolate."""
    lanes = lane_count(workers, job.plan.layout.shards)
    probes: list[_Probe] = []
    with tempfile.TemporaryDirectory(prefix="gen-engine-probe-") as scratch, renderers(job, lanes) as opened:

        def probe(renderer: Renderer) -> Callable[[int], None]:
            return lambda lane: probes.append(_probe(job, renderer, Path(scratch), lane))

        run_lanes([probe(renderer) for renderer in opened], iter(range(lanes)), StopSignal())
    return Estimate(
        plan=job.plan,
        lanes=lanes,
        bytes_total=round(sum(p.bytes for p in probes) / sum(p.samples for p in probes) * job.plan.count),
        samples_a_second=sum(p.samples / p.seconds for p in probes),
    )


class _Probe(NamedTuple):
    samples: int
    bytes: int
    seconds: float


def _probe(job: Job, renderer: Renderer, scratch: Path, lane: int) -> _Probe:
    """Write one batch to learn how many samples make a probe of :data:`PROBE_SECONDS`, then write those."""

    def write(samples: int) -> _Probe:
        began = time.monotonic()
        files = write_shard(job, renderer, Shard(number=lane, start=0, stop=samples), scratch, lambda _: None)
        seconds = time.monotonic() - began
        for file in files:
            file.temporary.unlink()
        return _Probe(samples, sum(file.bytes for file in files), seconds)

    most = min(job.plan.shard_size, job.plan.count)
    first = write(min(job.plan.compute.batch, most))
    return write(max(1, min(most, round(first.samples * PROBE_SECONDS / first.seconds))))
