"""What the scalar kinds share: the columns of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds import sheets
from gen_engine.engine.sample.kinds.contract import Kind

if TYPE_CHECKING:
    from gen_engine.engine.sample.field import Field


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


def within(values: NDArray[Any], low: int, high: int, field: Field) -> NDArray[np.bool_] | None:
    """Return which values are from ``low`` to ``high``, or missing where they may be: bool [B]; None if all are."""
    if field.nullable and field.missing_value == low - 1:
        low -= 1
    if not len(values) or (values.min() >= low and values.max() <= high):
        return None  # the usual case, at a quarter of the cost
    valid_B: NDArray[np.bool_] = (values >= low) & (values <= high)
    if field.nullable:
        valid_B |= values == field.missing_value
    return None if valid_B.all() else valid_B
