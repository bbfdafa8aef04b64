"""What ``gen-engine bench --host`` is asked for; its options are these fields."""

from __future__ import annotations

from dataclasses import dataclass

from gen_engine.engine.errors import RequestError

DEFAULT_HOST_BATCH = 250
"""Samples per call: batches on a GPU are larger than on a processor."""

DEFAULT_SECONDS = 5.0
MAX_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class HostRequest:
    """One measurement of the host path.

    Raises:
        RequestError: a number is out of range, or two fields exclude each other.
    """

    format: str = "npy"
    """Format of the shards."""

    codec: str | None = None
    """How the formats other than npy hold a sample.  [default: png]"""

    shape: str = "28x28x1"
    """Height, width and channels of the images."""

    classes: int = 10
    """Classes that samples are labelled with; 0 for none."""

    latents: int | None = None
    """Draw as many latents per sample, as for a generator on the processor.  [default: none, as on a GPU]"""

    workers: int | None = None
    """Threads that make shards.  [default: one per processor]"""

    shard_size: int | None = None
    """Samples per shard.  [default: as in 'sample']"""

    count: int | None = None
    """Samples to write once, instead of writing for a time."""

    seconds: float | None = None
    """How long to write, about.  [default: 5]"""

    out: str | None = None
    """Directory to write in; what is written is removed again.  [default: a RAM disk, /dev/shm]"""

    def __post_init__(self) -> None:
        if self.count is not None and self.seconds is not None:
            raise RequestError(f"count {self.count} and seconds {self.seconds:g}: give one of them")
        if self.seconds is not None and not 0 < self.seconds <= MAX_SECONDS:
            raise RequestError(f"seconds {self.seconds:g}: it must be above 0 and at most {MAX_SECONDS:g}")
        if self.classes < 0:
            raise RequestError(f"classes {self.classes}: it must be at least 0, which is none")
        _ = self.sizes

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The shape in numbers: height, width, channels."""
        parts = self.shape.split("x")
        if len(parts) != 3 or not all(part.isdecimal() and part.isascii() and 0 < int(part) < 10**6 for part in parts):
            raise RequestError(f"shape {self.shape!r}: write height, width and channels, as in 28x28x1")
        height, width, channels = map(int, parts)
        return height, width, channels
