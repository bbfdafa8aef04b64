"""Booleans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds.scalar import Scalar, within

if TYPE_CHECKING:
    from gen_engine.engine.sample.field import Field


class Boolean(Scalar):
    """True or false, as bool; where values may be missing, int8 with -1 for a missing one, 0 and 1."""

    name = "boolean"
    dtypes = ("bool",)
    nullable_dtypes = ("int8",)
    logical = "boolean"
    labelled_task = "tabular-classification"

    invalid = "value that is not -1, 0 or 1"

    def missing_value(self, field: Field) -> int:
        """Return -1."""
        return -1

    def valid(self, values: NDArray[Any], field: Field) -> NDArray[np.bool_] | None:
        """Return which values are booleans or missing; None if all are."""
        return within(values, -1, 1, field) if field.nullable else None
