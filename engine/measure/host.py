"""The host path alone: jobs as 'sample' runs them, behind a generator that costs nothing.

A job is opened, planned, written and committed by the code that every job runs; only the backend is replaced. What is
measured is what one process can write per second, and what a sample costs on a processor, however fast a GPU is.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_engine.engine.errors import OutputError, RequestError
from gen_engine.engine.measure.free_jobs import Costs, FreeJobs
from gen_engine.engine.measure.host_request import DEFAULT_SECONDS, HostRequest
from gen_engine.engine.measure.lock import LockSampler
from gen_engine.engine.measure.machine import BackgroundLoad
from gen_engine.engine.native import core, implementation
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.run.write import MAX_WORKERS, worker_count

RAM_DISK = Path("/dev/shm")

_JOB_BYTES = 1 << 29
"""A job writes about as much at most, so that it uses memory that the one before has used: a virtual machine may need
longer to get memory for the first time than a sample takes. The few milliseconds of begin and finish are 1 to 3 %."""

_OVERHEAD_BYTES = 2048
"""More than any format adds to a sample: two headers of a tar with their padding."""


@dataclass(frozen=True, kw_only=True)
class HostSpeed:
    """What was measured."""

    request: HostRequest
    plan: Plan
    workers: int
    out: Path
    jobs: int

    costs: Costs
    """Of all jobs."""

    lock_share: float | None
    """Share of time for which the interpreter's lock was held, in one more job; None without the compiled core."""

    background_load: float
    """Share of the processors that other processes took."""

    def to_json(self) -> dict[str, Any]:
        """Return the record for scripts."""
        loaded, costs = core(), self.costs
        return {
            "implementation": implementation(),
            "features": [] if loaded is None else loaded.features(),
            "format": self.plan.format,
            "codec": None if self.plan.codec_id is None else self.plan.codec_id.partition("/")[0],
            "shape": list(self.request.sizes),
            "classes": self.request.classes,
            "latents": self.request.latents,
            "batch": self.plan.compute.batch,
            "shard_size": self.plan.shard_size,
            "workers": self.workers,
            "out": str(self.out),
            "jobs": self.jobs,
            "samples": costs.samples,
            "seconds": round(costs.seconds, 4),
            "samples_per_second": round(costs.samples / costs.seconds, 1),
            "samples_per_processor_second": round(costs.samples / (costs.user + costs.system), 1),
            "user_seconds_per_sample": float(f"{costs.user / costs.samples:.4g}"),
            "system_seconds_per_sample": float(f"{costs.system / costs.samples:.4g}"),
            "lock_share": None if self.lock_share is None else round(self.lock_share, 3),
            "bytes_per_sample": round(costs.bytes / costs.samples, 1),
            "gigabytes_per_second": round(costs.bytes / costs.seconds / 1e9, 4),
            "background_load": round(self.background_load, 4),
        }

    def lines(self) -> list[str]:
        """Return the report for people."""
        record = self.to_json()
        lock = "not measured, since the compiled core is not built"
        if self.lock_share is not None:
            lock = f"held {self.lock_share:.0%} of the time, by all threads together"
        user, system = (1e6 * record[f"{of}_seconds_per_sample"] for of in ("user", "system"))
        rate, of_processor = record["samples_per_second"], record["samples_per_processor_second"]
        size, written = record["bytes_per_sample"], record["gigabytes_per_second"]
        return [
            f"host path of {self.plan.encoding}, {self.request.shape}, batch {record['batch']}",
            f"  {record['implementation']} code, workers: {self.workers}, {record['samples']:,} samples",
            f"  {rate:,.0f} samples/s of {size:,.0f} bytes, {written:.3f} GB/s",
            f"  {of_processor:,.0f} samples per second of processor time",
            f"  {user:.2f} µs per sample in the program, {system:.2f} µs in the operating system",
            f"  interpreter's lock: {lock}",
            f"  other processes took {self.background_load:.0%} of the processors; written in {self.out}",
        ]


def measure_host(request: HostRequest, batch: int, on_message: Callable[[str], None] = lambda _: None) -> HostSpeed:
    """Write jobs for a time, and one more while the interpreter's lock is sampled.

    Args:
        request: what to measure.
        batch: samples per call.
        on_message: called with messages for the user.

    Raises:
        RequestError: such samples cannot be stored so, the workers cannot all be busy, or there is no room.
        WriterUnavailable: the format or the codec does not work here.
        OutputError: a file cannot be written.
    """
    free_jobs = FreeJobs(request, batch)
    shard_size = free_jobs.job(1 if request.count is None else request.count).plan.shard_size
    workers = worker_count(request.workers, MAX_WORKERS)
    at_once = workers * shard_size
    if request.count is not None and request.count <= (workers - 1) * shard_size:
        raise RequestError(
            f"count {request.count}: in shards of {shard_size:,} samples it does not keep {workers} workers busy; give "
            f"--count {at_once}, or fewer --workers, or a smaller --shard-size"
        )
    value_bytes = free_jobs.bundle.output.field.value_bytes
    with _directory(request.out, at_once * (value_bytes + _OVERHEAD_BYTES), on_message) as out:
        small = free_jobs.job(min(at_once, request.count or at_once))
        Costs().run(small, out, workers)  # imports what the format needs
        first = Costs()
        first.run(small, out, workers)
        jobs, count = _divide(request, first, at_once, out)
        job, costs = free_jobs.job(count), Costs()
        Costs().run(job, out, workers)  # gets the memory
        load = BackgroundLoad()
        for _ in range(jobs):
            costs.run(job, out, workers)
        background_load = load.share()
        with LockSampler() as sampler:
            Costs().run(job, out, workers)
    return HostSpeed(
        request=request,
        plan=job.plan,
        workers=workers,
        out=out.parent,
        jobs=jobs,
        costs=costs,
        lock_share=sampler.share,
        background_load=background_load,
    )


def _divide(request: HostRequest, first: Costs, at_once: int, out: Path) -> tuple[int, int]:
    """Return the number of jobs and the samples of each, from the speed of a first one.

    Raises:
        RequestError: a job does not fit.
    """
    size, free = first.bytes / first.samples, shutil.disk_usage(out).free
    if request.count is not None:
        jobs, count = 1, request.count
    else:
        samples = (request.seconds or DEFAULT_SECONDS) * first.samples / first.seconds
        jobs = math.ceil(samples * size / min(_JOB_BYTES, free / 2))
        count = at_once * max(1, round(samples / jobs / at_once))
    if count * size > 0.95 * free:
        raise RequestError(
            f"{count:,} samples would have about {count * size / 1e9:.1f} GB, and {out.parent} has {free / 1e9:.1f} GB "
            "left; give a smaller --count, a smaller --shard-size, fewer --workers, or another --out"
        )
    return jobs, count


@contextlib.contextmanager
def _directory(out: str | None, needed: int, on_message: Callable[[str], None]) -> Iterator[Path]:
    """Make a directory with so much room, and remove it at the end.

    Raises:
        RequestError: there is no such room, or ``out`` is not a directory.
        OutputError: it cannot be made.
    """
    parent = Path(out) if out is not None else RAM_DISK
    if out is not None and not parent.is_dir():
        raise RequestError(f"--out {out}: it is not a directory; create it, or leave --out away")
    if out is None and not (os.access(RAM_DISK, os.W_OK) and shutil.disk_usage(RAM_DISK).free >= needed):
        parent = Path(tempfile.gettempdir())
        on_message(f"{RAM_DISK} is not there or has less than {needed / 1e9:.1f} GB left: writing in {parent}")
    if (free := shutil.disk_usage(parent).free) < needed:
        raise RequestError(
            f"one shard per worker needs up to {needed / 1e9:.1f} GB, and {parent} has {free / 1e9:.1f} GB left; give "
            "a smaller --shard-size, fewer --workers, or another --out"
        )
    try:
        directory = tempfile.TemporaryDirectory(prefix="gen-engine-bench-", dir=parent)
    except OSError as error:
        raise OutputError(f"{parent}: nothing can be written there ({error.strerror}); give another --out") from error
    with directory as path:
        yield Path(path)
