"""The plan of a job: everything that its bytes depend on, and nothing else.

Pure functions, no I/O. The number of workers, the output and interruptions are not part of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.parse import Fields, digest, integer, matching, nullable, number, one_of, text
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.identity.latents import ALGORITHM, DISTRIBUTIONS, check_truncation
from gen_engine.engine.identity.runtime import MAX_BATCH
from gen_engine.engine.plan.derived import Derived
from gen_engine.engine.plan.filtering import FilterPlan
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.request import MAX_COUNT, MAX_SHARD_BYTES
from gen_engine.engine.plan.shard_set import ShardSet
from gen_engine.engine.plan.where.where import Where
from gen_engine.engine.sample.schema import Layout, Schema
from gen_engine.engine.sample.shard import Shard

PLAN_SCHEMA = 3
_OLDER = "finish the job with the version that began it, or choose another --out"


@dataclass(frozen=True, kw_only=True)
class Compute:
    """The runtime that computed the samples. Others round differently, so it belongs to the job's identity."""

    backend: str
    version: str

    device: str
    """Its kind, ``cpu`` or ``cuda``: which of several equal GPUs ran does not matter, and the fingerprint distinguishes
    models."""

    precision: str
    batch: int

    fingerprint: str
    """SHA-256 of the generator's outputs for the first batch: equal on machines whose kernels round alike."""

    graph: str | None = None
    """SHA-256 of the compiled variant's graph; None for the canonical one, which the generator's own digest pins."""

    engine: str | None = None
    """SHA-256 of the engine that was built from the graph, if one was: another build may choose other kernels."""

    def __str__(self) -> str:
        """Return a human-readable form, without digests."""
        variant = "" if self.graph is None else f", variant {self.backend}-{self.precision}"
        return f"{self.backend} {self.version}, {self.device}, {self.precision}, batch {self.batch}{variant}"

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Compute:
        """Read what :meth:`to_json` returned.

        Raises:
            DocumentError: the document is malformed.
        """
        with Fields(value, where) as fields:
            return cls(
                backend=fields.take("backend", text(100)),
                version=fields.take("version", text()),
                device=fields.take("device", matching("[a-z]+", 20)),
                precision=fields.take("precision", matching("[a-z0-9]+", 20)),
                batch=fields.take("batch", integer(1, MAX_BATCH)),
                fingerprint=fields.take("fingerprint", digest),
                graph=fields.take("graph", nullable(digest)),
                engine=fields.take("engine", nullable(digest)),
            )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job with every choice made."""

    bundle_name: str | None
    """None, like the next two and the distribution, for samples that are derived from data and not from a generator's
    samples."""

    bundle_digest: str | None

    generator_id: str | None
    """:attr:`gen_engine.engine.identity.bundle.Bundle.generator_id`."""

    count: int
    seed: int
    algorithm: str = ALGORITHM
    """The algorithm that draws latents: :data:`gen_engine.engine.identity.latents.ALGORITHM`."""

    distribution: str | None
    truncation: float | None

    labels: LabelPlan | None
    """None for samples without classes."""

    layout: Layout
    format: str

    format_id: str
    """The format's and its library's version."""

    codec_id: str | None
    """The codec with its settings and its library's version; None for formats that hold arrays."""

    shard_size: int
    compute: Compute

    shard_bytes: int | None = None
    """The requested bytes that :attr:`shard_size` was computed from, if any."""

    derived: Derived | None = None
    """For samples that were made by changing others, and :attr:`compute` is what changed them. If the others are those
    of a dataset, its generator, seed, latents and labels are this plan's. None for samples as the generator made them.
    """

    filter: FilterPlan | None = None
    """The model that decides which candidates are its samples; None if none does."""

    where: Where | None = None
    """The conditions that all samples satisfy; None for none."""

    @property
    def quota(self) -> str | None:
        """What the labels state where some candidates are samples and others are not: ``class``, the classes of
        samples, or ``none``, those of candidates. None if all are, so that sample i is candidate i.
        """
        if self.filter is not None:
            return self.filter.quota
        return self.where.quota if self.where is not None and self.where.rejecting else None

    @property
    def encoding(self) -> str:
        """The format and, if it uses one, the codec, in human-readable form."""
        return self.format_id if self.codec_id is None else f"{self.format_id}, {self.codec_id}"

    def shard(self, number: int) -> Shard:
        """Return shard ``number``, 0 to ``layout.shards - 1``."""
        start = number * self.shard_size
        return Shard(number=number, start=start, stop=min(start + self.shard_size, self.count))

    @property
    def shards(self) -> int:
        """Shards of the whole job."""
        return shard_count(self.count, self.shard_size)

    def samples(self, part: Part = WHOLE) -> int:
        """Return how many samples the shards of a part hold."""
        return self._samples(len(part.shards(self.shards)), last=self.shards - 1 in part.shards(self.shards))

    def samples_in(self, shards: ShardSet) -> int:
        """Return how many samples these shards hold."""
        return self._samples(len(shards), last=self.shards - 1 in shards)

    def _samples(self, shards: int, *, last: bool) -> int:
        return shards * self.shard_size - (self.shards * self.shard_size - self.count if last else 0)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON: equal for equal plans. Only what is there is present of the last three fields."""
        document: dict[str, Any] = {
            "schema": PLAN_SCHEMA,
            "bundle": None
            if self.generator_id is None
            else {"name": self.bundle_name, "digest": self.bundle_digest, "generator": self.generator_id},
            "count": self.count,
            "seed": self.seed,
            "latents": None
            if self.distribution is None
            else {
                "algorithm": self.algorithm,
                "distribution": self.distribution,
                "truncation": self.truncation,
            },
            "labels": None if self.labels is None else self.labels.to_json(),
            "fields": self.layout.schema.to_json(),
            "format": {"name": self.format, "version": self.format_id, "codec": self.codec_id},
            "shard_size": self.shard_size,
            "shard_bytes": self.shard_bytes,
            "compute": self.compute.to_json(),
        }
        if self.derived is not None:
            document["derived"] = self.derived.to_json()
        if self.filter is not None:
            document["filter"] = self.filter.to_json()
        if self.where is not None:
            document["where"] = self.where.to_json()
        return document

    @classmethod
    def from_json(cls, value: Any, where: str) -> Plan:
        """Read what :meth:`to_json` returned.

        Raises:
            DocumentError: the document is malformed, or its fields are inconsistent.
        """
        with Fields(value, where) as fields:
            fields.take("schema", integer(PLAN_SCHEMA, PLAN_SCHEMA))
            seed = fields.take("seed", integer(0, 2**64 - 1))
            count = fields.take("count", integer(1, MAX_COUNT))
            shard_size = fields.take("shard_size", integer(1, MAX_COUNT))
            schema = fields.take("fields", Schema.from_json)
            labels = fields.take("labels", nullable(LabelPlan.from_json))
            _check_labels(labels, schema, where)
            bundle = fields.take("bundle", nullable(_read_bundle))
            latents = fields.take("latents", nullable(_read_latents))
            derived = fields.take_optional("derived", Derived.from_json)
            if (bundle is None) != (latents is None) or (bundle is None and derived is None):
                raise DocumentError(where, "a plan has a bundle and latents, or neither and what it was derived from")
            if labels is not None and labels.kind == "source" and derived is None:
                raise DocumentError(where, "labels.kind: only samples that were derived have the labels of others")
            return cls(
                **(bundle or dict.fromkeys(("bundle_name", "bundle_digest", "generator_id"))),
                **(latents or dict.fromkeys(("distribution", "truncation"))),
                **fields.take("format", _read_format),
                count=count,
                seed=seed,
                labels=labels,
                layout=Layout(schema=schema, shards=shard_count(count, shard_size)),
                shard_size=shard_size,
                shard_bytes=fields.take("shard_bytes", nullable(integer(1, MAX_SHARD_BYTES))),
                compute=fields.take("compute", Compute.from_json),
                derived=derived,
                filter=fields.take_optional("filter", FilterPlan.from_json),
                where=_read_where(fields, schema, labels),
            )

    def seal(self) -> bytes:
        """Return ``plan.json``: the plan with its own digest."""
        return seal(self.to_json())


def parse_plan(data: bytes, where: str) -> Plan:
    """Return the plan that :meth:`Plan.seal` made.

    Raises:
        DocumentError: it is damaged, was edited, is of another schema, or is inconsistent.
    """
    document = unseal(data, where, schema=PLAN_SCHEMA, older=_OLDER)
    del document["digest"]
    return Plan.from_json(document, where)


def shard_count(count: int, shard_size: int) -> int:
    """Return how many shards of at most ``shard_size`` samples hold ``count`` samples."""
    return -(-count // shard_size)


def _read_bundle(value: Any, where: str) -> dict[str, Any]:
    with Fields(value, where) as fields:
        return {
            "bundle_name": fields.take("name", text()),
            "bundle_digest": fields.take("digest", digest),
            "generator_id": fields.take("generator", digest),
        }


def _read_latents(value: Any, where: str) -> dict[str, Any]:
    with Fields(value, where) as fields:
        distribution = fields.take("distribution", one_of(*DISTRIBUTIONS))
        truncation = fields.take("truncation", nullable(number(0, 10)))
        try:
            check_truncation(distribution, truncation)
        except RequestError as error:
            raise DocumentError(where, str(error)) from None
        algorithm = fields.take("algorithm", text(100))
        return {"algorithm": algorithm, "distribution": distribution, "truncation": truncation}


def _read_format(value: Any, where: str) -> dict[str, Any]:
    with Fields(value, where) as fields:
        return {
            "format": fields.take("name", text(100)),
            "format_id": fields.take("version", text()),
            "codec_id": fields.take("codec", nullable(text())),
        }


def _read_where(fields: Fields, schema: Schema, labels: LabelPlan | None) -> Where | None:
    where = fields.take_optional("where", lambda value, where: Where.from_json(value, where, schema))
    if where is not None and where.classes is not None and labels is not None and labels.kind != "source":
        drawn = labels.possible(len(schema.class_names or ()))
        if not where.classes.holds(np.array(drawn, np.int64)).all():
            raise DocumentError("labels", "they have classes that the conditions exclude")
    return where


def _check_labels(labels: LabelPlan | None, schema: Schema, where: str) -> None:
    classes = len(schema.class_names or ())
    if (labels is None) != (classes == 0):
        raise DocumentError(where, f"a plan has labels where its samples have classes, and these have {classes:,}")
    if labels is not None and labels.constant is not None and labels.constant >= classes:
        raise DocumentError(where, f"labels.constant: {labels.constant} is not one of {classes:,} classes")
    if labels is not None and labels.weights is not None and len(labels.weights) != classes:
        raise DocumentError(where, f"labels.weights: {len(labels.weights):,} for {classes:,} classes")
