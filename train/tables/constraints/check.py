"""Which rows of a table violate a constraint, exactly; a row without all of its columns' values violates none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.tables.constraints.arithmetic import NUMPY
from gen_engine.train.tables.constraints.grammar import Constant, Constraint, Limit, Order, Total
from gen_engine.train.tables.constraints.measure import DATE, NUMBER, Measure, bound_of, comparable
from gen_engine.train.tables.constraints.satisfy import Operand, least
from gen_engine.train.tables.constraints.steps import Below
from gen_engine.train.tables.decide import Decision
from gen_engine.train.tables.values import Values

WIDEST = 2**62
"""Beyond every value that arithmetic in 64 bits may meet."""

_MARGIN = {"float64": (2.0**-51, 2.0**-1000), "float32": (2.0**-22, 2.0**-120)}
"""Of a dtype, what leads from a float to a greater one, relative and absolute: one or two units in the last place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """A column that constraints are about."""

    name: str
    decision: Decision
    values: Values
    measure: Measure

    @property
    def present(self) -> NDArray[np.bool_]:
        """Rows with a value."""
        return ~self.values.missing_N

    def operand(self) -> Operand[NDArray[Any]]:
        """Its values for NumPy."""
        real = self.values.form == "real"
        safe = np.where(self.values.missing_N, 0.0 if real else 0, self.values.values_N)
        scale = 0 if self.measure.unit is None else len(str(self.measure.unit.denominator)) - 1
        return Operand(value=safe, present=self.present, real=real, scale=scale, single=self.values.dtype == "float32")

    def bounds(self) -> tuple[Any, Any]:
        """Its least and greatest value, Python's; 0 and 0 without one."""
        present = self.values.values_N[self.present]
        return (present.min().item(), present.max().item()) if len(present) else (present.dtype.type(0).item(),) * 2

    def show(self, row: int) -> str:
        """A row's value as the user wrote it."""
        value = self.values.values_N[row].item()
        if self.measure.axis == NUMBER:
            number = value if self.measure.unit is None else value * self.measure.unit
            scale = self.operand().scale
            return f"{number}" if self.measure.unit is None else f"{float(number):.{scale}f}" if scale else f"{value}"
        unit = "D" if self.measure.axis == DATE else self.decision.unit
        return str(np.array(value).astype(f"datetime64[{unit}]"))


def below_of(one: Order, columns: Mapping[str, Column]) -> Below:
    """Return how the lower column of an order bounds the upper one.

    Raises:
        ConfigError: they cannot be compared, or not exactly.
        DataError: their values are too large.
    """
    lower, upper = columns[one.lower], columns[one.upper]
    if not comparable(lower.measure, upper.measure):
        raise ConfigError(
            f"constraint {one.text!r}: {one.lower!r} is a {lower.measure.axis} and {one.upper!r} a "
            f"{upper.measure.axis}, which do not compare. Declare both as one type with --column"
        )
    if lower.measure.unit is None or upper.measure.unit is None:
        return _below_of_floats(one, lower, upper)
    ratio = lower.measure.unit / upper.measure.unit
    shift = ratio.denominator if one.strict else ratio.denominator - 1
    most = max(map(abs, lower.bounds())) * ratio.numerator + shift
    if most >= WIDEST:
        raise DataError(
            f"constraint {one.text!r}: in the unit of {one.upper!r}, values of {one.lower!r} reach {most:,}, and "
            "constraints are computed below 2^62. Leave the constraint out, or write both in a larger unit"
        )
    return Below(column=one.lower, form="grid", times=ratio.numerator, shift=shift, divisor=ratio.denominator)


def _below_of_floats(one: Order, lower: Column, upper: Column) -> Below:
    for column in (lower, upper):
        if column.measure.kind == "decimal":
            raise ConfigError(
                f"constraint {one.text!r}: {column.name!r} is decimal and the other column holds floats with more than "
                f"six digits, which do not compare exactly. Declare it with --column {column.name}=float"
            )
    largest = max(map(abs, (*lower.bounds(), *upper.bounds())))
    largest *= 10 ** upper.operand().scale if lower.measure.unit is None else 1
    mixed = lower.measure.unit is not None or upper.measure.unit is not None
    if mixed and largest >= 2**51:
        raise DataError(
            f"constraint {one.text!r}: an integer and a float compare exactly below 2^51, and these columns reach "
            f"{largest:.4g}. Leave the constraint out"
        )
    if upper.measure.unit is not None:
        return Below(column=one.lower, form="ceiling", strict=one.strict)
    single = upper.measure.dtype == "float32"
    exact = not single or lower.measure.dtype == "float32"
    relative, absolute = _MARGIN[upper.measure.dtype] if one.strict or not exact else (0.0, 0.0)
    return Below(column=one.lower, form="real", strict=one.strict, relative=relative, absolute=absolute)


def common_units(one: Total, columns: Mapping[str, Column]) -> tuple[dict[str, int], int]:
    """Return what a column's unit is in common ones, negative for the total, and the constant in them.

    Raises:
        ConfigError: the columns have no exact sum.
        DataError: the sum does not stay below 2^62; or the constant is no sum of such values.
    """
    names = one.columns
    for name in names:
        measure = columns[name].measure
        if measure.unit is None:
            raise ConfigError(
                f"constraint {one.text!r}: {name!r} holds floats with more than six digits, whose sums are not exact. "
                "Round them in the data, or write them as decimals"
            )
        if measure.axis != NUMBER and (len(names) != 2 or not comparable(measure, columns[names[0]].measure)):
            raise ConfigError(f"constraint {one.text!r}: {name!r} is a {measure.axis}, which has no sum")
    units = {name: columns[name].measure.unit or Fraction(1) for name in names}
    denominator = max(unit.denominator for unit in units.values())
    whole = {name: int(unit * denominator) for name, unit in units.items()}
    divisor = gcd(*whole.values())
    constant = Fraction(0)
    if isinstance(one.total, Constant):
        if one.total.is_time:
            raise ConfigError(f"constraint {one.text!r}: {one.total.text} is a time, which is no sum")
        constant = one.total.value * denominator / divisor
    if constant.denominator != 1:
        raise DataError(
            f"constraint {one.text!r}: no sum of values with so few digits is {one.text.rpartition('=')[2].strip()}"
        )
    signed = {name: size // divisor * (-1 if name == one.total else 1) for name, size in whole.items()}
    most = sum(abs(unit) * max(map(abs, columns[name].bounds())) for name, unit in signed.items())
    if most + abs(constant) >= WIDEST:
        raise DataError(
            f"constraint {one.text!r}: its terms reach {most:,} in their common unit, and sums are computed below "
            "2^62. Leave the constraint out, or write the columns in a larger unit"
        )
    return signed, int(constant)


def violating(one: Constraint, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
    """Return which rows violate a constraint, bool [N]; raises as the functions above."""
    if isinstance(one, Limit):
        return _beyond(one, columns[one.column])
    complete_N = np.logical_and.reduce([columns[name].present for name in one.columns])
    if isinstance(one, Order):
        return np.logical_and(complete_N, _out_of_order(one, columns))
    signed, constant = common_units(one, columns)
    sums_N = np.sum([columns[name].operand().value * unit for name, unit in signed.items()], axis=0)
    wrong: NDArray[np.bool_] = complete_N & (sums_N != constant)
    return wrong


def _beyond(one: Limit, column: Column) -> NDArray[np.bool_]:
    measure = column.measure
    if one.constant.is_time != (measure.axis != NUMBER):
        raise ConfigError(
            f"constraint {one.text!r}: {one.column!r} is a {measure.axis}, and {one.constant.text} is a "
            f"{'time' if one.constant.is_time else NUMBER}"
        )
    bound = bound_of(one.constant, measure, upper=one.upper, strict=one.strict)
    values_N = column.values.values_N
    if isinstance(bound, int):
        bound = min(max(bound, -(2**63)), 2**63 - 1)
    wrong: NDArray[np.bool_] = column.present & (values_N > bound if one.upper else values_N < bound)
    return wrong


def _out_of_order(one: Order, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
    below, lower, upper = below_of(one, columns), columns[one.lower].operand(), columns[one.upper].operand()
    if below.form == "real":
        low, high = (number.value / 10.0**number.scale for number in (lower, upper))
        return np.asarray(high <= low if one.strict else high < low)
    return np.asarray(upper.value < least(NUMPY, [below], upper, [lower]).value)


def refuse_violated(constraints: Sequence[Constraint], columns: Mapping[str, Column], source: str) -> None:
    """DataError, with how many rows and the first of them, if a constraint does not hold in a table."""
    for one in constraints:
        rows = np.flatnonzero(violating(one, columns))
        if not len(rows):
            continue
        first = ", ".join(f"{name} = {columns[name].show(int(rows[0]))}" for name in one.columns)
        read = len(columns[one.columns[0]].present)
        raise DataError(
            f"constraint {one.text!r} does not hold in {source}: {len(rows):,} of {read:,} rows violate it, the "
            f"first is row {rows[0] + 1:,} ({first}). Correct the data, or leave the constraint out"
        )
