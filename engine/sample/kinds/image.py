"""Images: grey, grey and alpha, RGB, RGBA, or any other number of channels; 8 or 16 bits per channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds import sheets
from gen_engine.engine.sample.kinds.contract import Kind


class Image(Kind):
    """[height, width, channels], uint8 0 to 255 or uint16 0 to 65,535."""

    name = "image"
    axes = ("height", "width", "channels")
    dtypes = ("uint8", "uint16")
    form = "media"
    task = "unconditional-image-generation"
    labelled_task = "image-classification"

    def suspects(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which images have one value throughout."""
        flat_BV = values.reshape(len(values), -1)
        flat: NDArray[np.bool_] = (flat_BV == flat_BV[:, :1]).all(axis=1)
        return flat

    def reduce(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the images; of 16 bits, the upper 8."""
        return (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values.copy()

    def sheet(self, reduced: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the images in rows of ten."""
        return sheets.tile(reduced)
