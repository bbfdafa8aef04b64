"""What a user may ask of an augmented dataset. Imports no torch and no NumPy.

The command line makes its flags from these fields and shows the docstring under each as help.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gen_engine.engine.identity.runtime import check_range
from gen_engine.engine.plan.request import MAX_COUNT
from gen_engine.train.augment.options import AugmentOptions
from gen_engine.train.options import ReadOptions


@dataclass(frozen=True, kw_only=True)
class AugmentRequest:
    """One dataset. Two requests with equal fields make equal datasets from equal data.

    Raises:
        RequestError: a number is out of range.
    """

    count: int
    """How many samples to write."""

    seed: int = 0
    """Which random changes, 0 to 2**64 - 1."""

    balance: str = "original"
    """original, every image as often as any other, or uniform, every class as often as any other."""

    format: str = "npy"
    """Format of the shards."""

    codec: str | None = None
    """How the formats other than npy hold an image.  [default: png]"""

    shard_size: int | None = None
    """Samples per shard.  [default: 10000, in mds at most 64 MiB]"""

    augment: AugmentOptions = field(default_factory=AugmentOptions)
    """What is done to the images."""

    read: ReadOptions = field(default_factory=ReadOptions)
    """How the images are read."""

    def __post_init__(self) -> None:
        from gen_engine.engine.identity.latents import check_seed  # NumPy, which options do without

        check_range("count", self.count, MAX_COUNT)
        check_seed(self.seed)
        if self.shard_size is not None:
            check_range("shard size", self.shard_size, MAX_COUNT)
