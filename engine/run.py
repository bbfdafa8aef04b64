"""A sampling job from request to finished dataset: shards over lanes."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from gen_engine.engine import card
from gen_engine.engine.backends import open_backend
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.bundle import Bundle, read_bundle
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.digests import sha256_bytes
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.engine.finish import Unfinished
from gen_engine.engine.first_batch import refuse_broken, render_first_batch
from gen_engine.engine.labels import LabelPlan, Labels, parse_labels
from gen_engine.engine.lanes import Behind, StopSignal, run_lanes, usable_cpus
from gen_engine.engine.latents import Latents, check_truncation
from gen_engine.engine.ledger import Ledger
from gen_engine.engine.modalities import Pixels
from gen_engine.engine.parts import WHOLE, Part
from gen_engine.engine.plan import Compute, Plan, differences, shard_count
from gen_engine.engine.preview import SAMPLES, preview
from gen_engine.engine.processes import DeviceProcesses, Heard, Work
from gen_engine.engine.render import Renderer
from gen_engine.engine.request import DEFAULT_BATCH, SampleRequest
from gen_engine.engine.shard_size import settle_shard_size
from gen_engine.engine.variants import CANONICAL, Graph, choose
from gen_engine.engine.writers import open_format
from gen_engine.engine.writers.contract import Batch, Format, Layout, Origin, Shard, ShardWriter, WrittenFile

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

    unfinished: Unfinished | None
    """What the dataset still waits for; None if it is finished."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """An opened request: everything that lanes share."""

    request: SampleRequest
    plan: Plan
    bundle: Bundle
    backend: Backend
    format: Format
    codec: Codec
    new_labels: Callable[[], Labels | None] = field(repr=False)

    first_batch: Pixels = field(repr=False)
    """Samples 0 to batch - 1 as they are stored, rendered for the fingerprint."""

    def renderer(self) -> Renderer:
        """Open a lane."""
        latents = _latents(self.bundle, self.plan.seed, self.plan.truncation)
        return Renderer(self.backend.lane(), self.backend.batch, latents, self.new_labels(), self.first_batch)


def open_job(request: SampleRequest, bundle: Bundle, note: Callable[[str], None] = lambda _: None) -> Job:
    """Open the backend and settle the plan. Touches no output.

    Args:
        request: what is asked for.
        bundle: the generator.
        note: hears what the user should know of the choice of the graph.

    Raises:
        RequestError: the request does not fit the bundle.
        BackendUnavailable, WriterUnavailable: something it needs does not work here.
    """
    form = open_format(request.format)
    codec = _choose_codec(request, form, bundle)
    check_truncation(bundle.latent.distribution, request.truncation)
    label_plan, new_labels = _open_labels(request, bundle)
    name, graph = choose(
        bundle,
        backend=request.backend,
        device=request.device,
        precision=request.precision,
        batch=request.batch,
        note=note,
    )
    batch = _settle_batch(request, bundle, graph)
    latents = _latents(bundle, request.seed, request.truncation)
    backend, first_batch, first_labels, first_latents = render_first_batch(
        lambda size: open_backend(
            name, bundle, graph, device=request.device, batch=size, build=request.build, note=note
        ),
        lambda opened: Renderer(opened.lane(), opened.batch, latents, new_labels()),
        batch,
        with_latents=request.with_latents,
    )
    refuse_broken(first_batch, bundle, backend, latents, new_labels())
    codec.encode(first_batch[:1])  # a codec that cannot hold such samples says so before anything is written
    layout = Layout(
        shape=bundle.output.shape,
        class_names=None if bundle.labels is None else bundle.labels.names,
        shards=1,
        modality=bundle.output.modality,
        origin=Origin(seed=request.seed, latent_dim=bundle.latent.dim) if request.with_latents else None,
    )
    shard_size = settle_shard_size(request, form, codec, layout, Batch(0, first_batch, first_labels, first_latents))
    plan = Plan(
        bundle_name=bundle.name,
        bundle_digest=bundle.digest,
        generator_id=bundle.generator_id,
        count=request.count,
        seed=request.seed,
        distribution=bundle.latent.distribution,
        truncation=request.truncation,
        labels=label_plan,
        layout=dataclasses.replace(layout, shards=shard_count(request.count, shard_size)),
        format=form.name,
        format_id=form.identity,
        codec_id=None if form.holds_arrays else codec.identity,
        shard_size=shard_size,
        shard_bytes=request.shard_bytes,
        compute=Compute(
            backend=backend.name,
            version=backend.version,
            device=backend.device.partition(":")[0],
            precision=backend.precision,
            batch=batch,
            fingerprint=sha256_bytes(first_batch.tobytes()),
            graph=None if graph.origin == CANONICAL else graph.sha256,
            engine=backend.engine,
        ),
    )
    return Job(
        request=request,
        plan=plan,
        bundle=bundle,
        backend=backend,
        format=form,
        codec=codec,
        new_labels=new_labels,
        first_batch=first_batch,
    )


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
    with Ledger(out, job.plan.to_json(), part) as ledger:
        for damage in ledger.damage:
            monitor.note(str(damage))
        total = _samples(job, ledger.shards)
        left = 0 if ledger.complete else total - _samples(job, ledger.done)
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


def _go_on(job: Job, ledger: Ledger, lanes: int, monitor: Monitor, devices: Sequence[str]) -> Unfinished | None:
    if not ledger.prepared:
        _prepare(job, ledger)
    _write_shards(job, ledger, lanes, monitor, devices)
    return ledger.finish()


def _write_shards(job: Job, ledger: Ledger, lanes: int, monitor: Monitor, devices: Sequence[str]) -> None:
    stop = StopSignal()
    done = frozenset(ledger.done)
    todo = [number for number in ledger.shards if number not in done]

    def work_on(render: Render, behind: Behind) -> Callable[[int], None]:
        def heard(samples: int) -> None:
            monitor.rendered(samples)
            stop.check()

        def commit(shard: Shard, rendered: Rendered) -> None:
            with _aborted_on_error(rendered):
                files = rendered.commit()
            ledger.commit(shard.number, files)
            monitor.committed(_size(shard), sum(file.bytes for file in files))

        def work(number: int) -> None:
            shard = job.plan.shard(number)
            rendered = render(shard, heard)
            with _aborted_on_error(rendered):
                behind.run(lambda: commit(shard, rendered))

        return work

    with (
        _shard_renderers(job, ledger.scratch, min(lanes, len(todo)), devices) as opened,
        contextlib.ExitStack() as commits,
    ):
        behinds = [Behind(stop) for _ in opened]
        for behind in behinds:
            commits.callback(behind.wait)  # whatever becomes of the lanes, no commit outlives the job
        run_lanes([work_on(*pair) for pair in zip(opened, behinds, strict=True)], iter(todo), stop)


class Rendered(Protocol):
    """A shard that has all of its samples and waits for its commit: a :class:`ShardWriter` at the end of its way."""

    def commit(self) -> list[WrittenFile]:
        """See :meth:`ShardWriter.commit`."""
        ...

    def abort(self) -> None:
        """See :meth:`ShardWriter.abort`."""
        ...


Render: TypeAlias = Callable[[Shard, Heard], Rendered]
"""One lane: a shard in, its samples in temporary files out."""


@dataclass(frozen=True)
class _Durable:
    """A shard that a device's process has made durable."""

    files: list[WrittenFile]

    def commit(self) -> list[WrittenFile]:
        return self.files

    def abort(self) -> None:
        for file in self.files:
            file.temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _shard_renderers(job: Job, scratch: Path, lanes: int, devices: Sequence[str]) -> Iterator[Sequence[Render]]:
    """Open lanes that render shards: in this process, or in one a device."""
    if len(devices) < 2 or lanes < 2:
        with renderers(job, lanes) as opened:
            yield [partial(_render_shard, job, scratch, renderer) for renderer in opened]
        return
    devices = devices[:lanes]
    opener = DeviceOpener(job.request, job.bundle.path, scratch, job.plan.to_json())
    with DeviceProcesses(opener, devices, -(-lanes // len(devices))) as processes:
        yield [partial(_render_elsewhere, lane) for lane in processes.lanes]


def _render_elsewhere(lane: Work, shard: Shard, heard: Heard) -> Rendered:
    return _Durable(lane(shard, heard))


@dataclass(frozen=True)
class DeviceOpener:
    """Opens a job again in a device's process, and sees that it is the same job there."""

    request: SampleRequest
    bundle: Path
    scratch: Path
    plan: Mapping[str, Any]

    @contextlib.contextmanager
    def __call__(self, device: str, lanes: int) -> Iterator[Sequence[Work]]:
        """Open lanes on the device.

        Raises:
            BackendUnavailable: its samples would be others than the job's.
            EngineError: as :func:`open_job`.
        """
        job = open_job(dataclasses.replace(self.request, device=device), read_bundle(self.bundle))
        if found := differences(self.plan, job.plan.to_json()):
            what = "; ".join(f"{name} is {there} for the job and {here} there" for name, there, here in found)
            raise BackendUnavailable(
                f"device {device!r} would make other samples than {self.request.device}: {what}. All devices of a job "
                "must be of one model with one driver; leave it out of --device"
            )
        with renderers(job, lanes) as opened:
            yield [partial(_write_shard_of, job, self.scratch, renderer) for renderer in opened]


def _write_shard_of(job: Job, scratch: Path, renderer: Renderer, shard: Shard, heard: Heard) -> list[WrittenFile]:
    return write_shard(job, renderer, shard, scratch, heard)


def write_shard(
    job: Job, renderer: Renderer, shard: Shard, scratch: Path, heard: Callable[[int], None]
) -> list[WrittenFile]:
    """Render a shard into temporary files and make them durable; nothing of it stays if that fails."""
    writer = _render_shard(job, scratch, renderer, shard, heard)
    with _aborted_on_error(writer):
        return writer.commit()


def _render_shard(job: Job, scratch: Path, renderer: Renderer, shard: Shard, heard: Heard) -> ShardWriter:
    """Return a writer that has all of a shard's samples and waits for its commit."""
    writer: ShardWriter = job.format.open(scratch, job.plan.layout, shard, job.codec)
    with _aborted_on_error(writer):
        for batch in renderer.render(shard.start, shard.stop):
            if job.plan.layout.origin is not None:
                stop = batch.start + len(batch.pixels_BHWC)
                batch = batch._replace(latents_BZ=renderer.latents(batch.start, stop))
            writer.append(batch)
            heard(batch.pixels_BHWC.shape[0])
    return writer


@contextlib.contextmanager
def _aborted_on_error(rendered: Rendered) -> Iterator[None]:
    try:
        yield
    except BaseException:
        rendered.abort()
        raise


def _prepare(job: Job, ledger: Ledger) -> None:
    """Settle all that the job ends with while the bundle and the backend are at hand."""
    shown = min(job.plan.count, SAMPLES)
    with contextlib.closing(job.renderer()) as renderer:
        picture = preview((batch.pixels_BHWC for batch in renderer.render(0, shown)), job.plan.layout.modality)
    index = job.format.index_head(job.plan.layout, job.codec)
    ledger.prepare(card.manifest(job.plan), card.readme(job.plan, job.bundle, job.format), picture, index)


def _latents(bundle: Bundle, seed: int, truncation: float | None) -> Latents:
    latent = bundle.latent
    return Latents(dim=latent.dim, distribution=latent.distribution, seed=seed, truncation=truncation)


@contextlib.contextmanager
def renderers(job: Job, lanes: int) -> Iterator[list[Renderer]]:
    """Open so many lanes, and close them at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(job.renderer())) for _ in range(lanes)]


def _settle_batch(request: SampleRequest, bundle: Bundle, graph: Graph) -> int:
    if bundle.fixed_batch is not None and request.batch not in (None, bundle.fixed_batch):
        raise RequestError(
            f"batch {request.batch}: the graph of bundle {bundle.name} runs at its own batch of {bundle.fixed_batch} "
            "only; leave --batch out"
        )
    return request.batch or graph.batch or DEFAULT_BATCH


def _choose_codec(request: SampleRequest, form: Format, bundle: Bundle) -> Codec:
    pictures = bundle.output.modality == "image"
    if form.holds_arrays and request.codec not in (None, "raw"):
        instead = ", or choose --format webdataset or parquet" if pictures else ""
        raise RequestError(
            f"codec {request.codec!r}: format {form.name} holds arrays, not encoded pictures; "
            f"leave --codec out{instead}"
        )
    if form.holds_arrays or (request.codec is None and not pictures):
        return open_codec("raw")
    codec = open_codec("png" if request.codec is None else request.codec)
    if codec.pictures_only and not pictures:
        raise RequestError(
            f"codec {codec.name!r} holds pictures, and the samples of bundle {bundle.name} are of modality "
            f"{bundle.output.modality}; use --codec raw, or --format npy"
        )
    return codec


def _open_labels(request: SampleRequest, bundle: Bundle) -> tuple[LabelPlan | None, Callable[[], Labels | None]]:
    if bundle.labels is None:
        if request.labels is not None:
            raise RequestError(f"labels {request.labels!r}: bundle {bundle.name} has no classes; leave --labels out")
        return None, lambda: None
    names = bundle.labels.names
    plan, file = parse_labels("balanced" if request.labels is None else request.labels, names, request.count)
    return plan, lambda: Labels(plan, names, request.seed, file)


def lane_count(workers: int | None, shards: int) -> int:
    """Return how many lanes to run: as asked or one a processor, and no more than there are shards."""
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise RequestError(
            f"workers {workers}: it must be between 1 and {MAX_WORKERS}; leave it out for one a processor"
        )
    return max(1, min(workers or usable_cpus(), shards))  # a part may have none


def _size(shard: Shard) -> int:
    return shard.stop - shard.start


def _samples(job: Job, shards: Iterable[int]) -> int:
    return sum(_size(job.plan.shard(number)) for number in shards)
