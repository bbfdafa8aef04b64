"""The runtime that computes samples. Its batch belongs to a dataset's identity, and so does what it rounds."""

from __future__ import annotations

from dataclasses import dataclass

from gen_engine.engine.errors import RequestError

MAX_BATCH = 1 << 20
DEFAULT_BATCH = 50
"""Divides the default shard. Larger ones are no faster on a CPU (benchmarks/test_backends.py), and start later."""

TABLE_BATCH = 10_000
"""Rows of a table per call, unless requested: each column costs some microseconds per call, whatever the rows. Divides
the default shard of tables."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The runtime that computes samples: as requested, or with every choice made.

    Raises:
        RequestError: the batch is out of range.
    """

    backend: str = "auto"
    """The runtime, one of those that 'gen-engine doctor' lists; auto is that of the bundle's fastest variant."""

    device: str = "cpu"
    """Where it runs; with several GPUs, one worker process per GPU."""

    precision: str = "auto"
    """Its arithmetic; auto is that of the fastest variant, or fp32."""

    batch: int | None = None
    """Samples per call, part of the dataset's identity.  [default: the variant's, or 50, of tables 2000]"""

    build: bool = True
    """Whether a TensorRT engine may be built if the bundle has none for this GPU."""

    def __post_init__(self) -> None:
        if self.batch is not None:
            check_range("batch", self.batch, MAX_BATCH)


def check_range(what: str, value: int, maximum: int) -> None:
    """Raise RequestError unless a number is from 1 to ``maximum``."""
    if not 1 <= value <= maximum:
        raise RequestError(f"{what} {value}: it must be between 1 and {maximum:,}")
