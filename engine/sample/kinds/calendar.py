"""Dates and times: days or ticks since 1970-01-01 in the proleptic Gregorian calendar, of the years 1 to 9999.

Other years have no date in ISO 8601 with four digits, in SQL or in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds.scalar import Scalar, within

if TYPE_CHECKING:
    from gen_engine.engine.sample.field import Field

FIRST_DAY: Final = -719_162
"""0001-01-01."""

LAST_DAY: Final = 2_932_896
"""9999-12-31."""

TICKS: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Unit of a datetime → how many there are in a second."""

DAY_S: Final = 24 * 60 * 60


class Date(Scalar):
    """Days since 1970-01-01; a missing one is the least int32."""

    name = "date"
    dtypes = ("int32",)
    nullable_dtypes = ("int32",)
    logical = "date"
    labelled_task = "tabular-classification"

    invalid = "date that is missing or outside the years 1 to 9999"

    def valid(self, values: NDArray[Any], field: Field) -> NDArray[np.bool_] | None:
        """Return which values are dates; None if all are."""
        return within(values, FIRST_DAY, LAST_DAY, field)


class Datetime(Scalar):
    """Seconds, or fractions of them, since 1970-01-01 00:00; a missing one is the least int64."""

    name = "datetime"
    dtypes = ("int64",)
    nullable_dtypes = ("int64",)
    attributes: ClassVar[tuple[str, ...]] = ("unit", "utc")
    logical = "datetime"
    labelled_task = "tabular-classification"

    invalid = "time that is missing or outside the years 1 to 9999"

    def check(self, field: Field) -> None:
        """Raise ValueError unless the field has a unit."""
        super().check(field)
        if field.unit not in TICKS:
            raise ValueError(f"field {field.name}: unit {field.unit!r}: kind datetime needs {' or '.join(TICKS)}")

    def valid(self, values: NDArray[Any], field: Field) -> NDArray[np.bool_] | None:
        """Return which values are times; None if all are."""
        ticks, bounds = TICKS[field.unit or "s"] * DAY_S, np.iinfo(np.int64)
        low, high = FIRST_DAY * ticks, (LAST_DAY + 1) * ticks - 1
        return within(values, max(low, int(bounds.min) + 1), min(high, int(bounds.max)), field)

    def describe(self, field: Field) -> str:
        """Return the kind, its unit, and its time zone if it has one."""
        return f"{self.name} in {field.unit}{', UTC' if field.utc else ''}"
