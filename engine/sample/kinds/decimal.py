"""Decimal numbers: amounts of money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds.scalar import Scalar, within

if TYPE_CHECKING:
    from gen_engine.engine.sample.field import Field

DIGITS: Final = 18
"""Digits of a decimal, before and after the point together."""


class Decimal(Scalar):
    """The value times 10^scale, of at most 18 digits; a missing one is the least int64."""

    name = "decimal"
    dtypes = ("int64",)
    nullable_dtypes = ("int64",)
    attributes: ClassVar[tuple[str, ...]] = ("scale",)
    logical = "decimal"
    labelled_task = "tabular-classification"

    invalid = f"decimal that is missing or has more than {DIGITS} digits"

    def check(self, field: Field) -> None:
        """Raise ValueError unless the field has a scale of 0 to 18."""
        super().check(field)
        if type(field.scale) is not int or not 0 <= field.scale <= DIGITS:
            raise ValueError(f"field {field.name}: scale {field.scale!r}: kind decimal needs 0 to {DIGITS} digits")

    def valid(self, values: NDArray[Any], field: Field) -> NDArray[np.bool_] | None:
        """Return which values have at most 18 digits; None if all have."""
        return within(values, 1 - 10**DIGITS, 10**DIGITS - 1, field)

    def describe(self, field: Field) -> str:
        """Return the kind and its digits after the point."""
        return f"{self.name} with {field.scale} digits after the point"
