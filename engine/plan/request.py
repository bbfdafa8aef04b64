"""The request of a sampling job, checked before anything is opened.

The command line's options are these fields: their defaults, and as help the docstrings under them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.runtime import Runtime, check_range
from gen_engine.engine.plan.filtering import FilterOptions

MAX_COUNT = 10**12
"""Sample indices are written with twelve digits."""

MAX_SHARD_BYTES = 2**50
DEFAULT_SHARD_SIZE = 10_000
TABLE_SHARD_SIZE = 100_000
"""Rows of a table are a hundred bytes or so: smaller shards would cost more in files than in rows."""


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """One job. Two requests with equal fields make equal datasets from one bundle.

    Raises:
        RequestError: a number is out of range.
    """

    count: int
    """How many samples to write."""

    seed: int = 0
    """Which sequence of samples, 0 to 2**64 - 1."""

    labels: str | None = None
    """Their classes: balanced, NAME, "NAME", id:3, A=0.9,B=0.1 or file:labels.npy.  [default: balanced; of a table,
    the shares of its rows]"""

    truncation: float | None = None
    """Keep every normal latent within ±PSI."""

    format: str = "npy"
    """Format of the shards."""

    codec: str | None = None
    """How the formats other than npy hold a sample.  [default: png for images, else raw]"""

    shard_size: int | None = None
    """Samples per shard; the last one may have fewer.  [default: 10000, of tables 100000, in mds at most 64 MiB]"""

    shard_bytes: int | None = None
    """Bytes per shard, about, instead of samples: 64MB, 64MiB, 1GB."""

    with_latents: bool = False
    """Store with each sample the seed and the latents that it was made from."""

    where: tuple[str, ...] = ()
    """Conditions that all samples satisfy: 'age=30..40, sex=F, city!=Oslo|Rome, income is missing'; may be
    repeated."""

    filtering: FilterOptions = field(default_factory=FilterOptions)
    """Which samples are kept."""

    runtime: Runtime = field(default_factory=Runtime)
    """What computes the samples."""

    def __post_init__(self) -> None:
        from gen_engine.engine.identity.latents import check_seed  # NumPy, which options do without

        check_seed(self.seed)
        check_range("count", self.count, MAX_COUNT)
        if self.filtering.filter_min_acceptance is not None and not self.where and self.filtering.filter is None:
            raise RequestError("filter min acceptance without a filter: give --filter or --where, or leave it out")
        if self.shard_size is not None and self.shard_bytes is not None:
            raise RequestError(
                f"shard size {self.shard_size} and shard bytes {self.shard_bytes}: give one of them, samples or bytes"
            )
        if self.shard_size is not None:
            check_range("shard size", self.shard_size, MAX_COUNT)
        if self.shard_bytes is not None:
            check_range("shard bytes", self.shard_bytes, MAX_SHARD_BYTES)
