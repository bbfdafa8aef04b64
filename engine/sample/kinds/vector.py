"""Vectors: a list of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds import sheets
from gen_engine.engine.sample.kinds.contract import Kind

_SHOWN = 2 * sheets.COLUMNS * sheets.SIDE
"""The preview omits features of a wider vector."""


class Vector(Kind):
    """[features], float32: the generator's own values."""

    name = "vector"
    axes = ("features",)
    dtypes = ("float32",)
    form = "media"
    caption = "The first samples, one row each and one column per feature, from its minimum in black to its maximum"
    labelled_task = "tabular-classification"

    def reduce(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the features that the preview shows."""
        return values[:, :_SHOWN].copy()

    def sheet(self, reduced: NDArray[Any]) -> NDArray[np.uint8]:
        """Return a table of grey levels."""
        return sheets.table(reduced)
