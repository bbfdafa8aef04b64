"""The plan of a job: everything that its bytes depend on, and nothing else.

Pure functions, no I/O. How many workers run it, where it is written and how often it is interrupted are no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.identity.latents import ALGORITHM
from gen_engine.engine.sample.schema import Layout
from gen_engine.engine.sample.shard import Shard

PLAN_SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What computed the pixels. Kernels round differently elsewhere, so it belongs to the job's identity."""

    backend: str
    version: str

    device: str
    """Its kind, ``cpu`` or ``cuda``: which GPU of several ran is no part of the job, and the fingerprint tells models
    apart."""

    precision: str
    batch: int

    fingerprint: str
    """SHA-256 of the first batch's pixels: equal on machines whose kernels round alike."""

    graph: str | None = None
    """SHA-256 of the compiled variant's graph; None for the canonical one, which the generator's own digest pins."""

    engine: str | None = None
    """SHA-256 of the engine that was built of the graph, if one was: another build may choose other kernels."""

    def __str__(self) -> str:
        """Return it as people read it, the digests left out."""
        variant = "" if self.graph is None else f", variant {self.backend}-{self.precision}"
        return f"{self.backend} {self.version}, {self.device}, {self.precision}, batch {self.batch}{variant}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON; ``graph`` and ``engine`` are there only where there is one, as in older plans."""
        document = {
            "backend": self.backend,
            "version": self.version,
            "device": self.device,
            "precision": self.precision,
            "batch": self.batch,
            "fingerprint": self.fingerprint,
        }
        digests = {"graph": self.graph, "engine": self.engine}
        return document | {name: digest for name, digest in digests.items() if digest is not None}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job that is settled in every detail."""

    bundle_name: str
    bundle_digest: str

    generator_id: str
    """:attr:`gen_engine.engine.identity.bundle.Bundle.generator_id`."""

    count: int
    seed: int
    distribution: str
    truncation: float | None

    labels: LabelPlan | None
    """None for a generator without classes."""

    layout: Layout
    format: str

    format_id: str
    """The format's and its library's version."""

    codec_id: str | None
    """The codec with its settings and its library's version; None for formats that hold arrays."""

    shard_size: int
    compute: Compute

    shard_bytes: int | None = None
    """What :attr:`shard_size` was settled from, if bytes were asked for."""

    @property
    def encoding(self) -> str:
        """The format and, where it has one, the codec, as people read them."""
        return self.format_id if self.codec_id is None else f"{self.format_id}, {self.codec_id}"

    def shard(self, number: int) -> Shard:
        """Return shard ``number``, 0 to ``layout.shards - 1``."""
        start = number * self.shard_size
        return Shard(number=number, start=start, stop=min(start + self.shard_size, self.count))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON: equal for equal plans, and what few ask for is there for them only."""
        return {
            "schema": PLAN_SCHEMA,
            "bundle": {"name": self.bundle_name, "digest": self.bundle_digest, "generator": self.generator_id},
            "count": self.count,
            "seed": self.seed,
            "latents": {
                "algorithm": ALGORITHM,
                "distribution": self.distribution,
                "truncation": self.truncation,
                **({} if self.layout.origin is None else {"stored": True}),
            },
            "labels": None if self.labels is None else self.labels.to_json(),
            "format": {"name": self.format, "version": self.format_id, "codec": self.codec_id},
            "shard_size": self.shard_size,
            **({} if self.shard_bytes is None else {"shard_bytes": self.shard_bytes}),
            "compute": self.compute.to_json(),
        }


def shard_count(count: int, shard_size: int) -> int:
    """Return how many shards of at most ``shard_size`` samples hold ``count`` samples."""
    return -(-count // shard_size)
