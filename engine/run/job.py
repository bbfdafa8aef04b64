"""A job: a request or a plan with every choice made, and its generator opened.

``open_job`` resolves a request (reads the bundle's records, opens nothing), opens its generator, and completes the plan
from the first batch. ``open_plan`` opens a complete plan, as ``gen-engine verify`` does.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from gen_engine.engine.backends.choose import choose
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import DatasetError, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import LabelPlan, Labels, parse_labels
from gen_engine.engine.identity.latents import ALGORITHM, Latents, check_truncation
from gen_engine.engine.identity.runtime import DEFAULT_BATCH, TABLE_BATCH, Runtime
from gen_engine.engine.identity.variants import CANONICAL, Graph, find_graph
from gen_engine.engine.plan.plan import Compute, Plan, shard_count
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.plan.where.where import Where
from gen_engine.engine.render.accepted import Accepted, AcceptedLabels, AcceptedLatents
from gen_engine.engine.render.first_batch import First
from gen_engine.engine.render.opening import Generation, open_checked
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.run.criterion import Criterion, all_of
from gen_engine.engine.run.filtering import Unsettled, open_filter
from gen_engine.engine.run.shard_size import resolve_shard_size
from gen_engine.engine.run.where import Satisfying, open_where
from gen_engine.engine.sample.schema import Batch, Layout, Schema
from gen_engine.engine.writers import open_format
from gen_engine.engine.writers.contract import Format
from gen_engine.engine.writers.shard import is_encoded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A request with every choice made, before anything is opened."""

    request: SampleRequest
    generation: Generation
    label_plan: LabelPlan | None
    format: Format
    codec: Codec
    filter: Unsettled | None = None
    where: Where | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A plan and its opened generator: everything that workers share."""

    request: SampleRequest | None
    """The request that the plan was made from; None for a job that was opened from a plan."""

    plan: Plan
    bundle: Bundle
    backend: Backend
    format: Format
    codec: Codec
    labels: Labels | None = field(repr=False)

    first_batch: Batch = field(repr=False)
    """Samples 0 to batch - 1 as they are stored, rendered for the fingerprint; candidates, if there is a criterion."""

    criterion: Criterion | None = field(default=None, repr=False)
    """Decides which candidates are samples; None if all are, and in a job that was opened from its plan."""

    accepted: Accepted | None = field(default=None, repr=False)
    """The samples among the candidates, once they are known; until then candidates are rendered."""

    def renderer(self) -> Renderer:
        """Open one more execution stream and its renderer."""
        latent, plan = self.bundle.latent, self.plan
        latents = Latents(dim=latent.dim, distribution=latent.distribution, seed=plan.seed, truncation=plan.truncation)
        stream, schema = self.backend.open_stream(), plan.layout.schema
        if self.accepted is None:
            return Renderer(stream, self.backend.batch, latents, self.labels, schema, self.first_batch)
        accepted, labels = self.accepted.again(), self.labels
        if labels is not None and plan.quota == "none":
            labels = AcceptedLabels(labels, accepted)
        check = None if plan.where is None else plan.where.check
        return Renderer(stream, self.backend.batch, AcceptedLatents(latents, accepted), labels, schema, check=check)


def open_job(request: SampleRequest, bundle: Bundle, on_message: Callable[[str], None] = lambda _: None) -> Job:
    """Open the backend and complete the plan. Touches no output.

    Args:
        request: what is requested.
        bundle: the generator.
        on_message: called with messages for the user about the choice of the graph.

    Raises:
        RequestError: the request does not fit the bundle.
        BackendUnavailable, WriterUnavailable: something it needs does not work here.
        BackendError: the first batch does not fit into memory, or is degenerate.
    """
    resolved = resolve(request, bundle, lambda: choose(bundle, request.runtime, on_message))
    return assemble(resolved, open_checked(resolved.generation, on_message))


def resolve(request: SampleRequest, bundle: Bundle, choose_graph: Callable[[], tuple[str, Graph]]) -> Resolved:
    """Make every choice of a request. Reads the bundle's records and a label file; opens no device.

    Args:
        request: what is requested.
        bundle: the generator.
        choose_graph: returns the backend's name and the graph that it runs; called once the rest was checked.

    Raises:
        RequestError, BackendUnavailable, WriterUnavailable: as :func:`open_job`.
    """
    form = open_format(request.format)
    codec = _choose_codec(request, form, bundle)
    check_truncation(bundle.latent.distribution, request.truncation)
    where, label_plan, labels = _resolve_labels(request, bundle)
    filter_ = open_filter(request.filtering, bundle, label_plan)
    backend, graph = choose_graph()
    runtime = Runtime(
        backend=backend,
        device=request.runtime.device,
        precision=graph.precision,
        batch=_resolve_batch(request.runtime.batch, bundle, graph),
        build=request.runtime.build,
    )
    generation = Generation(
        bundle=bundle,
        graph=graph,
        runtime=runtime,
        seed=request.seed,
        truncation=request.truncation,
        labels=labels,
        schema=bundle.schema(with_latents=request.with_latents),
    )
    return Resolved(
        request=request,
        generation=generation,
        label_plan=label_plan,
        format=form,
        codec=codec,
        filter=filter_,
        where=where,
    )


def assemble(resolved: Resolved, first: First) -> Job:
    """Return the job of a resolved request whose first batch was rendered."""
    plan, generation = settle(resolved, first), resolved.generation
    backend, first_batch = first
    _log.info("%s: %s", generation.bundle.name, plan.compute)
    job = Job(
        request=resolved.request,
        plan=plan,
        bundle=generation.bundle,
        backend=backend,
        format=resolved.format,
        codec=resolved.codec,
        labels=generation.labels,
        first_batch=first_batch,
    )
    criteria: list[Criterion] = []
    if plan.where is not None and plan.where.rejecting:
        criteria.append(Satisfying(plan.where))
    if resolved.filter is not None:
        with contextlib.closing(job.renderer()) as renderer:
            settled = resolved.filter.settle(renderer, first_batch, plan.seed)
        plan = replace(plan, filter=settled.plan)
        criteria.append(settled)
    return replace(job, plan=plan, criterion=all_of(criteria))


def settle(resolved: Resolved, first: First) -> Plan:
    """Return the plan of a resolved request whose first batch was rendered."""
    request, bundle, form, codec = resolved.request, resolved.generation.bundle, resolved.format, resolved.codec
    (backend, first_batch), schema = first, resolved.generation.schema
    one_shard = Layout(schema=schema, shards=1)
    _check_storage(form, codec, one_shard, first_batch)
    shard_size = resolve_shard_size(request, form, codec, one_shard, first_batch)
    return Plan(
        bundle_name=bundle.name,
        bundle_digest=bundle.digest,
        generator_id=bundle.generator_id,
        count=request.count,
        seed=request.seed,
        distribution=bundle.latent.distribution,
        truncation=request.truncation,
        labels=resolved.label_plan,
        layout=Layout(schema=schema, shards=shard_count(request.count, shard_size)),
        format=form.name,
        format_id=form.identity,
        codec_id=None if form.holds_arrays else codec.identity,
        shard_size=shard_size,
        shard_bytes=request.shard_bytes,
        compute=_compute(backend, resolved.generation.graph, fingerprint(first_batch, schema)),
        where=resolved.where,
    )


def open_plan(plan: Plan, bundle: Bundle, labels: Labels | None = None) -> Job:
    """Open a job by its plan, on a machine that may round differently, to regenerate some of its samples.

    Args:
        plan: the dataset's.
        bundle: the generator that made it.
        labels: draws its labels, if the plan's come from a file.

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
    schema = plan.layout.schema
    if plan.labels is not None and labels is None:
        labels = Labels(plan.labels, schema.class_names or (), plan.seed)
    generation = Generation(
        bundle=bundle,
        graph=_find_graph(plan, bundle),
        runtime=Runtime(backend=compute.backend, device=compute.device, batch=compute.batch),
        seed=plan.seed,
        truncation=plan.truncation,
        labels=labels,
        schema=schema,
    )
    backend = generation.open(compute.batch)
    with contextlib.closing(generation.renderer(backend)) as renderer:
        first_batch = renderer.array(0, backend.batch)
    return Job(
        request=None,
        plan=plan,
        bundle=bundle,
        backend=backend,
        format=form,
        codec=codec,
        labels=labels,
        first_batch=first_batch,
    )


def _check_generator(plan: Plan, bundle: Bundle) -> None:
    if plan.derived is not None:
        again = "run the command that changed them again"
        if plan.generator_id is None:
            raise RequestError(
                f"its samples are data {plan.derived.dataset[:12]}…, changed by {plan.derived.process}: no generator "
                f"makes them; {again}"
            )
        raise RequestError(
            f"its samples are those of dataset {plan.derived.dataset[:12]}…, changed by {plan.derived.process}: no "
            f"generator makes them; regenerate samples of that dataset, and {again}"
        )
    assert plan.generator_id is not None, "only derived samples have no generator"
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


def _find_graph(plan: Plan, bundle: Bundle) -> Graph:
    compute = plan.compute
    graph = find_graph(bundle, compute.graph)
    if graph is None:
        raise RequestError(
            f"the dataset was made by variant {compute.backend}-{compute.precision} (sha256 "
            f"{(compute.graph or '')[:12]}…), and {bundle.path} no longer has it: it was recompiled or never "
            "there; give a copy of the bundle that has it with --bundle"
        )
    return graph


def fingerprint(first_batch: Batch, schema: Schema) -> str:
    """Return the SHA-256 of the generator's outputs in the first batch, one field after the other."""
    return sha256_bytes(b"".join(np.asarray(first_batch[one.name]).tobytes() for one in schema.outputs))


def _check_storage(form: Format, codec: Codec, layout: Layout, first: Batch) -> None:
    """Raise RequestError, before anything is written, if the format or the codec cannot hold such samples."""
    form.check(layout)
    for one in layout.schema:
        if not form.holds_arrays and is_encoded(one, codec):
            codec.encode(np.asarray(first[one.name])[:1])


def _compute(backend: Backend, graph: Graph, fingerprint: str) -> Compute:
    return Compute(
        backend=backend.name,
        version=backend.version,
        device=backend.device.partition(":")[0],
        precision=backend.precision,
        batch=backend.batch,
        fingerprint=fingerprint,
        graph=None if graph.origin == CANONICAL else graph.sha256,
        engine=backend.engine,
    )


def _resolve_batch(requested: int | None, bundle: Bundle, graph: Graph) -> int:
    if bundle.fixed_batch is not None and requested not in (None, bundle.fixed_batch):
        raise RequestError(
            f"batch {requested}: the graph of bundle {bundle.name} runs at its own batch of {bundle.fixed_batch} "
            "only; leave --batch out"
        )
    return requested or graph.batch or (TABLE_BATCH if bundle.is_table else DEFAULT_BATCH)


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


def _resolve_labels(request: SampleRequest, bundle: Bundle) -> tuple[Where | None, LabelPlan | None, Labels | None]:
    """Return the conditions of a request, and the labels, which satisfy theirs."""
    if bundle.labels is None:
        if request.labels is not None:
            raise RequestError(f"labels {request.labels!r}: bundle {bundle.name} has no classes; leave --labels out")
        return *open_where(request, bundle, None), None
    names = bundle.labels.names
    plan, file = bundle.labels.default_plan, None
    if request.labels is not None:
        plan, file = parse_labels(request.labels, names, request.count)
    where, restricted = open_where(request, bundle, plan)
    assert restricted is not None
    return where, restricted, Labels(restricted, names, request.seed, file)
