"""Jobs behind a generator that costs nothing, and what writing them takes."""

from __future__ import annotations

import contextlib
import resource
import shutil
import time
from pathlib import Path

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import BundleError, RequestError
from gen_engine.engine.identity.bundle import GENERATOR, Bundle, BundleFile, LabelSpec, LatentSpec, OutputSpec
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.identity.variants import CANONICAL, Graph
from gen_engine.engine.measure.free_generator import FreeBackend
from gen_engine.engine.measure.host_request import HostRequest
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import Job, assemble, resolve
from gen_engine.engine.run.write import write_dataset

_GRAPH = b""
"""The generator's."""


class FreeJobs:
    """Opens jobs of the free generator, which differ in their count alone.

    Args:
        request: formats, shapes and sizes.
        batch: samples per call.

    Raises:
        RequestError: there are no such samples, or a batch of them is too large.
    """

    def __init__(self, request: HostRequest, batch: int) -> None:
        self._request, self._batch = request, batch
        try:
            self.bundle = _bundle(request)
        except BundleError as error:
            raise RequestError(str(error)) from error
        self._backend = FreeBackend(self.bundle.output, batch, draws=request.latents is None)

    def job(self, count: int) -> Job:
        """Open a job, as :func:`gen_engine.engine.run.job.open_job` does, but for the generator and its checks.

        Raises:
            RequestError, WriterUnavailable: as there.
        """
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


class Costs:
    """What jobs wrote, and the time that it took."""

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
