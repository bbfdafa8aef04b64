"""A job: a request that was opened and settled in every detail, with all that lanes share."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gen_engine.engine.backends import open_backend
from gen_engine.engine.backends.choose import choose
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import DatasetError, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import LabelPlan, Labels, parse_labels
from gen_engine.engine.identity.latents import ALGORITHM, Latents, check_truncation
from gen_engine.engine.identity.variants import CANONICAL, Graph, find_graph
from gen_engine.engine.plan.plan import Compute, Plan, shard_count
from gen_engine.engine.plan.request import DEFAULT_BATCH, SampleRequest
from gen_engine.engine.plan.shard_size import settle_shard_size
from gen_engine.engine.render.opening import open_checked
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.sample.schema import Batch, Layout, Schema
from gen_engine.engine.writers import open_format
from gen_engine.engine.writers.contract import Format
from gen_engine.engine.writers.shard import is_encoded


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

    first_batch: Batch = field(repr=False)
    """Samples 0 to batch - 1 as they are stored, rendered for the fingerprint."""

    def renderer(self) -> Renderer:
        """Open a lane."""
        latents = _latents(self.bundle, self.plan.seed, self.plan.truncation)
        lane, schema = self.backend.lane(), self.plan.layout.schema
        return Renderer(lane, self.backend.batch, latents, self.new_labels(), schema, self.first_batch)


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
    schema = bundle.schema(with_latents=request.with_latents)
    backend, first_batch = open_checked(
        bundle,
        graph,
        batch,
        open_at=lambda size: open_backend(
            name, bundle, graph, device=request.device, batch=size, build=request.build, note=note
        ),
        new_latents=lambda: _latents(bundle, request.seed, request.truncation),
        new_labels=new_labels,
        limited=request.device == "cpu",
        schema=schema,
    )
    layout = Layout(schema=schema, shards=1)
    _check_storage(form, codec, layout, first_batch)
    shard_size = settle_shard_size(request, form, codec, layout, first_batch)
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
        compute=_computation(backend, graph, batch, fingerprint(first_batch, schema)),
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


def open_plan(plan: Plan, bundle: Bundle, labels: Labels | None = None) -> Job:
    """Open a job by its plan, on a machine that may round differently, to make samples of it again.

    Args:
        plan: that of the dataset.
        bundle: the generator that made it.
        labels: what draws its labels, if the plan's are those of a file.

    Raises:
        DatasetError: the plan is of another version, or does not fit the generator.
        RequestError: another generator made the dataset, or a variant that the bundle no longer has.
        BackendUnavailable, WriterUnavailable: something that it needs does not work here.
    """
    _check_generator(plan, bundle)
    compute, form = plan.compute, open_format(plan.format)
    codec = open_codec("raw" if plan.codec_id is None else plan.codec_id.partition("/")[0])
    if form.holds_arrays is not (plan.codec_id is None):
        raise DatasetError(f"its plan is inconsistent: format {form.name} with codec {plan.codec_id}")
    graph = find_graph(bundle, compute.graph)
    if graph is None:
        raise RequestError(
            f"the dataset was made by variant {compute.backend}-{compute.precision} (sha256 "
            f"{(compute.graph or '')[:12]}…), and {bundle.path} no longer has it: it was compiled again or never "
            "there; give a copy of the bundle that has it with --bundle"
        )
    backend = open_backend(compute.backend, bundle, graph, device=compute.device, batch=compute.batch)
    schema = plan.layout.schema
    names = schema.class_names or ()

    def new_labels() -> Labels | None:
        return labels if plan.labels is None or labels is not None else Labels(plan.labels, names, plan.seed)

    latents = _latents(bundle, plan.seed, plan.truncation)
    with contextlib.closing(Renderer(backend.lane(), backend.batch, latents, new_labels(), schema)) as renderer:
        first_batch = renderer.array(0, backend.batch)
    return Job(
        request=SampleRequest(count=plan.count, seed=plan.seed),
        plan=plan,
        bundle=bundle,
        backend=backend,
        format=form,
        codec=codec,
        new_labels=new_labels,
        first_batch=first_batch,
    )


def _check_generator(plan: Plan, bundle: Bundle) -> None:
    if plan.algorithm != ALGORITHM:
        raise DatasetError(
            f"its latents are {plan.algorithm}, this gen-engine draws {ALGORITHM}; verify it with the version that "
            "made it"
        )
    if plan.generator_id != bundle.generator_id:
        raise RequestError(
            f"the dataset was made by generator {plan.bundle_name} ({plan.generator_id[:12]}…), and {bundle.path} "
            f"holds {bundle.name} ({bundle.generator_id[:12]}…); give the right one with --bundle"
        )
    if plan.layout.schema != bundle.schema(with_latents="latents" in plan.layout.schema):
        raise DatasetError("its plan is inconsistent: its fields are not those of its generator")


def fingerprint(first_batch: Batch, schema: Schema) -> str:
    """Return the SHA-256 of what the generator made of the first batch, one field after the other."""
    return sha256_bytes(b"".join(np.asarray(first_batch[one.name]).tobytes() for one in schema.outputs))


def _check_storage(form: Format, codec: Codec, layout: Layout, first: Batch) -> None:
    """Raise RequestError, before anything is written, if the format or the codec cannot hold such samples."""
    form.check(layout)
    for one in layout.schema:
        if not form.holds_arrays and is_encoded(one, codec):
            codec.encode(np.asarray(first[one.name])[:1])


def _computation(backend: Backend, graph: Graph, batch: int, fingerprint: str) -> Compute:
    return Compute(
        backend=backend.name,
        version=backend.version,
        device=backend.device.partition(":")[0],
        precision=backend.precision,
        batch=batch,
        fingerprint=fingerprint,
        graph=None if graph.origin == CANONICAL else graph.sha256,
        engine=backend.engine,
    )


def _latents(bundle: Bundle, seed: int, truncation: float | None) -> Latents:
    latent = bundle.latent
    return Latents(dim=latent.dim, distribution=latent.distribution, seed=seed, truncation=truncation)


def _settle_batch(request: SampleRequest, bundle: Bundle, graph: Graph) -> int:
    if bundle.fixed_batch is not None and request.batch not in (None, bundle.fixed_batch):
        raise RequestError(
            f"batch {request.batch}: the graph of bundle {bundle.name} runs at its own batch of {bundle.fixed_batch} "
            "only; leave --batch out"
        )
    return request.batch or graph.batch or DEFAULT_BATCH


def _choose_codec(request: SampleRequest, form: Format, bundle: Bundle) -> Codec:
    kinds = {output.kind for output in bundle.outputs}
    if form.holds_arrays and request.codec not in (None, "raw"):
        instead = ", or choose --format webdataset or parquet" if "image" in kinds else ""
        raise RequestError(
            f"codec {request.codec!r}: format {form.name} holds arrays, not encoded files; leave --codec out{instead}"
        )
    if form.holds_arrays or (request.codec is None and "image" not in kinds):
        return open_codec("raw")
    codec = open_codec("png" if request.codec is None else request.codec)
    if codec.name != "raw" and not kinds.intersection(codec.kinds):
        raise RequestError(
            f"codec {codec.name!r} encodes fields of kind {', '.join(sorted(codec.kinds))}, and the samples of bundle "
            f"{bundle.name} are of kind {', '.join(sorted(kinds))}; use --codec raw, or --format npy"
        )
    return codec


def _open_labels(request: SampleRequest, bundle: Bundle) -> tuple[LabelPlan | None, Callable[[], Labels | None]]:
    if bundle.labels is None:
        if request.labels is not None:
            raise RequestError(f"labels {request.labels!r}: bundle {bundle.name} has no classes; leave --labels out")
        return None, lambda: None
    names = bundle.labels.names
    if request.labels is None:
        balanced = LabelPlan(kind="balanced")
        return balanced, lambda: Labels(balanced, names, request.seed)
    plan, file = parse_labels(request.labels, names, request.count)
    return plan, lambda: Labels(plan, names, request.seed, file)
