"""What the values of a column count, so that columns of different types compare exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.constraints.grammar import DAY, Constant
from gen_engine.train.tables.decide import Decision
from gen_engine.train.tables.values import Values

NUMBER, DATE, TIME, TIME_UTC = "number", "date", "time", "time with a zone"

_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How to read the values of a column."""

    axis: str
    """What they are: NUMBER, DATE, TIME or TIME_UTC."""

    unit: Fraction | None
    """What an integer of the grid counts: of a number itself, of a time nanoseconds; None for real floats."""

    kind: str
    """Of the column's field."""

    dtype: str
    """The same."""


def measure_of(name: str, decision: Decision, values: Values, text: str) -> Measure:
    """Return how a column's values are read; ConfigError, naming the constraint `text`, if they have no order."""
    if values.kind in ("category", "boolean"):
        raise ConfigError(
            f"constraint {text!r}: column {name!r} is {values.kind}, which has no order and no sum. Declare it with "
            f"--column {name}=integer or another type that it is, or leave the constraint out"
        )
    if values.kind == "date":
        return Measure(axis=DATE, unit=Fraction(DAY), kind=values.kind, dtype=values.dtype)
    if values.kind == "datetime":
        axis = TIME_UTC if decision.utc else TIME
        return Measure(axis=axis, unit=Fraction(_UNITS[decision.unit]), kind=values.kind, dtype=values.dtype)
    scale = max(decision.scale, 0) if values.kind != "integer" else 0
    unit = Fraction(1, 10**scale) if values.form == "grid" else None
    return Measure(axis=NUMBER, unit=unit, kind=values.kind, dtype=values.dtype)


def comparable(one: Measure, other: Measure) -> bool:
    """Whether values of two columns have an order. A date stands for its first moment, in UTC if the other is."""
    return one.axis == other.axis or {one.axis, other.axis} in ({DATE, TIME}, {DATE, TIME_UTC})


def bound_of(constant: Constant, measure: Measure, *, upper: bool, strict: bool) -> int | float:
    """Return the last value that a column may have: of its grid, or a float of its dtype.

    Args:
        constant: of the same axis.
        measure: of the column.
        upper: whether the constant is above it.
        strict: whether it may not be reached.
    """
    if measure.unit is None:
        kind = np.dtype(measure.dtype).type
        nearest = kind(float(constant.value))
        return float(np.nextafter(nearest, kind(-np.inf if upper else np.inf))) if strict else float(nearest)
    steps = constant.value / measure.unit
    if upper:
        return math.ceil(steps) - 1 if strict else math.floor(steps)
    return math.floor(steps) + 1 if strict else math.ceil(steps)
