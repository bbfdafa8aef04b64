"""Volumes: stacks of slices, such as scans."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds import sheets
from gen_engine.engine.sample.kinds.contract import Kind


class Volume(Kind):
    """[depth, height, width, channels], float32: the generator's own values."""

    name = "volume"
    axes = ("depth", "height", "width", "channels")
    dtypes = ("float32",)
    form = "media"
    caption = "The middle slices of the first samples, each from its minimum in black to its maximum in white"

    def reduce(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the middle slices across the depth: a hundred volumes may not fit into memory."""
        return values[:, values.shape[1] // 2].copy()

    def sheet(self, reduced: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the slices in rows of ten."""
        return sheets.tile(sheets.in_range(reduced, axes=(1, 2, 3)))
