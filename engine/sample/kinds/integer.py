"""Integers: counts, codes, identifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds.scalar import Scalar, within

if TYPE_CHECKING:
    from gen_engine.engine.sample.field import Field


class Integer(Scalar):
    """One integer per sample; a missing one is the least value of its dtype."""

    name = "integer"
    dtypes = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
    nullable_dtypes = ("int64", "int32", "int16", "int8")
    labelled_task = "tabular-classification"

    invalid = "missing value (the least of its dtype) in a column without missing values"

    def valid(self, values: NDArray[Any], field: Field) -> NDArray[np.bool_] | None:
        """Return which values are not missing ones; None if all are. Only columns of tables distinguish them."""
        if field.nullable or not field.is_column or values.dtype.kind != "i":
            return None
        most = (1 << 8 * values.dtype.itemsize - 1) - 1
        return within(values, -most, most, field)
