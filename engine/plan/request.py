"""What the user asks of a sampling job, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.latents import check_seed

MAX_COUNT = 10**12
"""Sample indices are written with twelve digits."""

MAX_SHARD_BYTES = 2**50
MAX_BATCH = 1 << 20
DEFAULT_SHARD_SIZE = 10_000
DEFAULT_BATCH = 50
"""Divides the default shard. Larger ones are no faster on a CPU (benchmarks/test_backends.py), and start later."""


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """One job. Two requests with equal fields make equal datasets from one bundle.

    Raises:
        RequestError: a number is out of range.
    """

    count: int
    """Samples to write."""

    seed: int = 0
    """Which of the generator's 2**64 sample sequences."""

    labels: str | None = None
    """``balanced``, a class, ``A=0.9,B=0.1`` or ``file:labels.npy``; None is balanced if there are classes."""

    truncation: float | None = None
    """Keep every normal latent within ±truncation; None for no truncation."""

    format: str = "npy"
    """One of :data:`gen_engine.engine.writers.FORMATS`."""

    codec: str | None = None
    """One of :data:`gen_engine.engine.codecs.CODECS`; None is png for pictures and raw for other samples."""

    shard_size: int | None = None
    """Samples a shard; the last one may be smaller. None for :data:`DEFAULT_SHARD_SIZE`, or less if the format asks."""

    shard_bytes: int | None = None
    """Bytes a shard, about, in the place of :attr:`shard_size`: see :mod:`gen_engine.engine.plan.shard_size`."""

    with_latents: bool = False
    """Store with every sample the seed and the latents that it was made from."""

    backend: str = "auto"
    """With :attr:`precision` this decides the graph: see :func:`gen_engine.engine.backends.choose.choose`."""

    device: str = "cpu"
    precision: str = "auto"

    batch: int | None = None
    """Samples a call of the backend, part of the job's identity; None for the graph's own, or :data:`DEFAULT_BATCH`."""

    build: bool = True
    """Whether an engine may be built if there is none for this GPU; cannot change a byte of what is made without."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        _check_range("count", self.count, MAX_COUNT)
        if self.shard_size is not None and self.shard_bytes is not None:
            raise RequestError(
                f"shard size {self.shard_size} and shard bytes {self.shard_bytes}: give one of them, samples or bytes"
            )
        if self.shard_size is not None:
            _check_range("shard size", self.shard_size, MAX_COUNT)
        if self.shard_bytes is not None:
            _check_range("shard bytes", self.shard_bytes, MAX_SHARD_BYTES)
        if self.batch is not None:
            _check_range("batch", self.batch, MAX_BATCH)


def _check_range(what: str, value: int, maximum: int) -> None:
    if not 1 <= value <= maximum:
        raise RequestError(f"{what} {value}: it must be between 1 and {maximum:,}")
