"""The host path alone: jobs as 'sample' runs them, behind a generator that costs nothing.

A job is opened, planned, written and committed by the code that every job runs; only the backend is replaced. What is
measured is what one process can write per second, and what a sample costs on a processor, however fast a GPU is.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import BundleError, OutputError, RequestError
from gen_engine.engine.identity.bundle import GENERATOR, Bundle, BundleFile, LabelSpec, LatentSpec, OutputSpec
from gen_engine.engine.identity.variants import CANONICAL, Graph
from gen_engine.engine.measure.free_generator import FreeBackend
from gen_engine.engine.measure.host_request import DEFAULT_SECONDS, HostRequest
from gen_engine.engine.measure.lock import LockSampler
from gen_engine.engine.measure.machine import BackgroundLoad
from gen_engine.engine.native import core
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.plan.request import Runtime, SampleRequest
from gen_engine.engine.run.job import Job, assemble, resolve
from gen_engine.engine.run.write import MAX_WORKERS, worker_count, write_dataset

RAM_DISK = Path("/dev/shm")

_GRAPH = b""
"""The generator's."""

_JOB_BYTES = 1 << 30
"""A job writes about as much at most, so that a measurement of any length fits onto the RAM disk."""

_OVERHEAD_BYTES = 2048
"""More than any format adds to a sample: two headers of a tar with their padding."""


@dataclass(frozen=True, kw_only=True)
class HostSpeed:
    """What was measured: sums over all jobs."""

    request: HostRequest
    plan: Plan
    workers: int
    out: Path
    jobs: int
    samples: int
    bytes: int

    seconds: float
    """Wall-clock time."""

    user: float
    """Processor time of all threads in the program, seconds."""

    system: float
    """The same in the operating system, which is mostly the time of writing."""

    lock_share: float | None
    """Share of time for which the interpreter's lock was held, in one more job; None without the compiled core."""

    background_load: float
    """Share of the processors that other processes took."""

    @property
    def processor(self) -> float:
        """Processor seconds."""
        return self.user + self.system

    def to_json(self) -> dict[str, Any]:
        """Return the record for scripts."""
        loaded = core()
        return {
            "implementation": "numpy" if loaded is None else "native",
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
            "samples": self.samples,
            "seconds": round(self.seconds, 4),
            "samples_per_second": round(self.samples / self.seconds, 1),
            "samples_per_processor_second": round(self.samples / self.processor, 1),
            "user_seconds_per_sample": float(f"{self.user / self.samples:.4g}"),
            "system_seconds_per_sample": float(f"{self.system / self.samples:.4g}"),
            "lock_share": None if self.lock_share is None else round(self.lock_share, 3),
            "bytes_per_sample": round(self.bytes / self.samples, 1),
            "gigabytes_per_second": round(self.bytes / self.seconds / 1e9, 4),
            "background_load": round(self.background_load, 4),
        }

    def lines(self) -> list[str]:
        """Return the report for people."""
        record, samples = self.to_json(), self.samples
        what = "not measured: the compiled core is not built"
        if self.lock_share is not None:
            what = f"held {self.lock_share:.0%} of the time, by all threads together"
        cost, system = 1e6 * self.processor / samples, 1e6 * self.system / samples
        rate, of_cpu = samples / self.seconds, samples / self.processor
        return [
            f"host path of {self.plan.encoding}, {self.request.shape}, batch {record['batch']}",
            f"  {record['implementation']} code, workers: {self.workers}, {samples:,} samples in {self.seconds:.2f} s",
            f"  {rate:,.0f} samples/s of {self.bytes / samples:,.0f} bytes: {record['gigabytes_per_second']:.3f} GB/s",
            f"  {of_cpu:,.0f} samples per second of processor time: {cost:.2f} µs each, {system:.2f} of it system",
            f"  interpreter's lock: {what}",
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
    open_job = _Opener(request, batch)
    shard_size = open_job(1 if request.count is None else request.count).plan.shard_size
    workers = worker_count(request.workers, MAX_WORKERS)
    at_once = workers * shard_size
    if request.count is not None and request.count <= (workers - 1) * shard_size:
        raise RequestError(
            f"count {request.count}: in shards of {shard_size:,} samples it does not keep {workers} workers busy; give "
            f"--count {at_once}, or fewer --workers, or a smaller --shard-size"
        )
    value_bytes = open_job.bundle.output.field.value_bytes
    with _directory(request.out, at_once * (value_bytes + _OVERHEAD_BYTES), on_message) as out:
        small = open_job(min(at_once, request.count or at_once))
        _Sums().run(small, out, workers)  # imports what the format needs
        first = _Sums()
        first.run(small, out, workers)
        jobs, count = _divide(request, first, at_once, out)
        job, sums, load = open_job(count), _Sums(), BackgroundLoad()
        for _ in range(jobs):
            sums.run(job, out, workers)
        background_load = load.share()
        with LockSampler() as sampler:
            _Sums().run(job, out, workers)
    return HostSpeed(
        request=request,
        plan=job.plan,
        workers=workers,
        out=out.parent,
        jobs=jobs,
        samples=sums.samples,
        bytes=sums.bytes,
        seconds=sums.seconds,
        user=sums.user,
        system=sums.system,
        lock_share=sampler.share,
        background_load=background_load,
    )


def _divide(request: HostRequest, first: _Sums, at_once: int, out: Path) -> tuple[int, int]:
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


class _Opener:
    """Opens jobs of the free generator with any count; everything else is the same."""

    def __init__(self, request: HostRequest, batch: int) -> None:
        self._request, self._batch = request, batch
        try:
            self.bundle = _bundle(request)
        except BundleError as error:
            raise RequestError(str(error)) from error
        self._backend = FreeBackend(self.bundle.output, batch, draws=request.latents is None)

    def __call__(self, count: int) -> Job:
        """Open a job."""
        request, backend = self._request, self._backend
        sample = SampleRequest(
            count=count,
            format=request.format,
            codec=request.codec,
            shard_size=request.shard_size,
            runtime=Runtime(backend=backend.name, batch=self._batch),
        )
        graph = Graph(onnx=_GRAPH, sha256=sha256_bytes(_GRAPH), precision="fp32", origin=CANONICAL, batch=None)
        resolved = resolve(sample, self.bundle, lambda: (backend.name, graph))
        with contextlib.closing(resolved.generation.renderer(backend)) as renderer:
            first_batch = renderer.array(0, self._batch)
        return assemble(resolved, (backend, first_batch))


def _bundle(request: HostRequest) -> Bundle:
    digest = sha256_bytes(_GRAPH)
    return Bundle(
        path=Path("free.gen"),
        name="free",
        latent=LatentSpec(dim=1 if request.latents is None else request.latents, distribution="normal"),
        labels=LabelSpec(names=tuple(map(str, range(request.classes)))) if request.classes else None,
        outputs=(OutputSpec(kind="image", shape=request.sizes),),
        files={GENERATOR: BundleFile(bytes=len(_GRAPH), sha256=digest)},
        digest=digest,
    )


class _Sums:
    """Work and time of jobs."""

    def __init__(self) -> None:
        self.samples = self.bytes = 0
        self.seconds = self.user = self.system = 0.0

    def run(self, job: Job, out: Path, workers: int) -> None:
        """Write a job's dataset, add what it took, and remove it."""
        directory = out / "dataset"
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        outcome = write_dataset(job, directory, workers=workers, monitor=_Silent())
        self.seconds += time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
        self.user += after.ru_utime - before.ru_utime
        self.system += after.ru_stime - before.ru_stime
        self.samples += outcome.samples
        self.bytes += outcome.bytes
        shutil.rmtree(directory)


class _Silent:
    """A monitor that shows nothing."""

    def started(self, total: int, done: int, workers: int) -> None: ...
    def rendered(self, samples: int) -> None: ...
    def committed(self, samples: int, size: int) -> None: ...
    def message(self, text: str) -> None: ...


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
