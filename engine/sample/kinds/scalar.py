"""What the scalar kinds share: the columns of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds import sheets
from gen_engine.engine.sample.kinds.contract import Kind


class Scalar(Kind):
    """Base of the kinds with one number per sample."""

    axes = ()
    form = "scalar"
    caption = "The first samples, one row each and one column per field, from its minimum in black to its maximum"

    def reduce(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values as a column: [B, 1]."""
        return values.reshape(-1, 1).astype(np.float64)

    def sheet(self, reduced: NDArray[Any]) -> NDArray[np.uint8]:
        """Return a table of grey levels."""
        return sheets.table(reduced)
