"""What a sample can be: pictures, sounds, volumes, or rows of a table; and how each is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8 | np.float32]
"""Samples as they are stored, channels last. The engine names such arrays ``pixels_BHWC`` after pictures; those of
another modality have its own axes in the place of H and W, and are float32."""


@dataclass(frozen=True, kw_only=True)
class Modality:
    """How samples of one kind are stored."""

    axes: tuple[str, ...]
    """Names of a sample's axes, channels last."""

    layout: str
    """The axes with the batch in front, as the bundle's manifest names them."""

    dtype: str
    """Of the stored values: float32 are the generator's own."""

    range: tuple[int, int] | None
    """The least and the greatest value; None where the generator alone knows."""


MODALITIES = {
    "image": Modality(axes=("height", "width", "channels"), layout="NHWC", dtype="uint8", range=(0, 255)),
    "audio": Modality(axes=("length", "channels"), layout="NLC", dtype="float32", range=None),
    "volume": Modality(axes=("depth", "height", "width", "channels"), layout="NDHWC", dtype="float32", range=None),
    "vector": Modality(axes=("features",), layout="NC", dtype="float32", range=None),
}
"""What a bundle's ``output.modality`` may be. Audio is any series over one axis."""
