"""What a sample is, as every writer, reader and renderer sees it.

Shape suffixes: B samples, H height, W width, C channels, Z latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.modalities import MODALITIES, Pixels


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What every sample is stored with if its origin was asked for: the seed, and the latents that it was made from."""

    seed: int
    latent_dim: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What all shards of a dataset have in common."""

    shape: tuple[int, ...]
    """Of a sample, channels last: height, width, channels of an image."""

    class_names: tuple[str, ...] | None
    """Class names in order of their ids; None for a dataset without labels."""

    shards: int
    """How many shards the dataset has; some formats state it in every file's name."""

    modality: str = "image"
    """One of :data:`gen_engine.engine.sample.modalities.MODALITIES`."""

    origin: Origin | None = None
    """None for samples that are stored with their label and index alone."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values, little-endian: uint8 for images, float32 for others."""
        return np.dtype(MODALITIES[self.modality].dtype).newbyteorder("<")

    @property
    def noun(self) -> str:
        """What a sample is called in names of files and columns: ``image``, or ``sample`` for other modalities."""
        return "image" if self.modality == "image" else "sample"


class Batch(NamedTuple):
    """Consecutive samples of a shard."""

    start: int
    """Index of the first one in the dataset."""

    pixels_BHWC: Pixels
    """uint8 [B, H, W, C], or float32 [B, …] of another modality."""

    labels_B: NDArray[np.int64] | None

    latents_BZ: NDArray[np.float32] | None = None
    """Where the layout has an origin."""


@dataclass(frozen=True)
class StoredSample:
    """One sample as its shard holds it."""

    index: int
    label: int | None
    payload: bytes
    """Encoded by the dataset's codec; C-order bytes of the values for formats that hold arrays."""

    seed: int | None = None
    latents: bytes | None = None
    """Little-endian float32, of datasets whose samples are stored with their origin."""
