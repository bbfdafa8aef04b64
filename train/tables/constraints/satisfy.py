"""Rows that were drawn to rows that satisfy the constraints, written once for every arithmetic.

NumPy's is the reference and :mod:`gen_engine.export.tables.constraints` has that of a graph. So both take the same
steps in the same types, and are equal in every value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from gen_engine.train.tables.columns import ColumnSpec
from gen_engine.train.tables.constraints.arithmetic import Arithmetic
from gen_engine.train.tables.constraints.steps import Below, Clip, Gap, Step, Sum

V = TypeVar("V")

LEAST_BASE = -(2**63)
LEAST_REAL = -1.7976931348623157e308
"""Below every value: what a column without a value asks of another one."""


@dataclass(frozen=True, kw_only=True)
class Operand(Generic[V]):
    """A column's values in some arithmetic."""

    value: V
    """Where one is missing, a value of its range or anything that can be computed with."""

    present: V | None
    """Where it has one; None: everywhere."""

    real: bool
    scale: int = 0
    """Of integers: the float that they stand for is divided by 10^scale."""

    single: bool = False
    """Of floats: whether the field is float32."""


def satisfy(ops: Arithmetic[V], steps: Sequence[Step], columns: Sequence[ColumnSpec], values: Sequence[V]) -> list[V]:
    """Return the values of columns after all steps.

    Args:
        ops: the arithmetic.
        steps: in their order.
        columns: of the model.
        values: as drawn, of each of `columns`: int64 with `ColumnSpec.missing`, or float64 with NaN.
    """
    places = {one.name: place for place, one in enumerate(columns)}
    made = list(values)

    def operand(name: str) -> Operand[V]:
        return _operand(ops, columns[places[name]], made[places[name]])

    for step in steps:
        if isinstance(step, Sum):
            satisfied = _sum(ops, step, [operand(name) for name in step.columns])
        elif isinstance(step, Clip):
            satisfied = [_clip(ops, step, operand(step.column))]
        else:
            below = [operand(one.column) for one in step.below]
            satisfied = [_gap(ops, step, operand(step.column), operand(step.gap), below)]
        names = step.columns if isinstance(step, Sum) else (step.column,)
        for name, one in zip(names, satisfied, strict=True):
            made[places[name]] = _stored(ops, columns[places[name]], one)
    return made


def _operand(ops: Arithmetic[V], column: ColumnSpec, value: V) -> Operand[V]:
    present = None
    if column.nullable:
        absent = ops.is_nan(value) if column.is_real else ops.equal(value, ops.constant(column.missing))
        present = ops.opposite(absent)
        # What stands for a missing value may not enter a sum, which would leave 64 bits.
        value = ops.where(present, value, ops.constant(0.0 if column.is_real else 0))
    return Operand(
        value=value, present=present, real=column.is_real, scale=column.scale, single=column.dtype == "float32"
    )


def _stored(ops: Arithmetic[V], column: ColumnSpec, one: Operand[V]) -> V:
    if one.present is None:
        return one.value
    return ops.where(one.present, one.value, ops.constant(float("nan") if column.is_real else column.missing))


def least(ops: Arithmetic[V], step: Sequence[Below], upper: Operand[V], below: Sequence[Operand[V]]) -> Operand[V]:
    """Return the least values that a column may have above others; none where none of these has a value."""
    lowest = ops.constant(LEAST_REAL if upper.real else LEAST_BASE)
    made: V | None = None
    known: V | None = None
    everywhere = False
    for one, lower in zip(step, below, strict=True):
        base = _base(ops, one, upper, lower)
        if lower.present is None:
            everywhere = True
        else:
            base = ops.where(lower.present, base, lowest)
            known = lower.present if known is None else ops.either(known, lower.present)
        made = base if made is None else _greater(ops, made, base)
    assert made is not None
    return replace(upper, value=made, present=None if everywhere else known)


def _base(ops: Arithmetic[V], one: Below, upper: Operand[V], lower: Operand[V]) -> V:
    if one.form == "grid":
        value = lower.value if one.times == 1 else ops.multiply(lower.value, ops.constant(one.times))
        value = ops.add(value, ops.constant(one.shift)) if one.shift else value
        return value if one.divisor == 1 else ops.floor_divide(value, ops.constant(one.divisor))
    value = as_number(ops, lower)
    if one.form == "real":
        if not one.absolute:
            return value
        margin = ops.multiply(ops.absolute(value), ops.constant(one.relative))
        beyond = ops.add(value, ops.add(margin, ops.constant(one.absolute)))
        # What float32 holds stays where it is when a sum that is not less is rounded.
        return beyond if one.strict else ops.where(ops.equal(ops.as_single(value), value), value, beyond)
    # The product is off by less than 1, so two steps from below reach the first float that is not less.
    scaled = ops.multiply(value, ops.constant(10.0**upper.scale))
    made = ops.subtract(ops.ceiling(scaled), ops.constant(1))
    for _ in range(2):
        number = as_number(ops, replace(upper, value=made))
        short = ops.less(number, value)
        short = ops.either(short, ops.equal(number, value)) if one.strict else short
        made = ops.where(short, ops.add(made, ops.constant(1)), made)
    return made


def as_number(ops: Arithmetic[V], one: Operand[V]) -> V:
    """Return the floats that a column's field holds, as float64."""
    if one.real:
        return ops.as_single(one.value) if one.single else one.value
    value = ops.as_float(one.value)
    return ops.divide(value, ops.constant(10.0**one.scale)) if one.scale else value


def _greater(ops: Arithmetic[V], one: V, other: V) -> V:
    # Not Max: ONNX Runtime's is wrong for int64 from 2^31 on, as Min is.
    return ops.where(ops.less(one, other), other, one)


def _lesser(ops: Arithmetic[V], one: V, other: V) -> V:
    return ops.where(ops.less(other, one), other, one)


def _clip(ops: Arithmetic[V], step: Clip, one: Operand[V]) -> Operand[V]:
    value = _lesser(ops, _greater(ops, one.value, ops.constant(step.low)), ops.constant(step.high))
    return replace(one, value=value)


def _gap(ops: Arithmetic[V], step: Gap, own: Operand[V], gap: Operand[V], below: Sequence[Operand[V]]) -> Operand[V]:
    base = least(ops, step.below, own, below)
    value = ops.add(base.value, gap.value)
    for place, held in enumerate(step.held):
        code = ops.constant(float(-1 - place) if gap.real else -1 - place)
        value = ops.where(ops.equal(gap.value, code), ops.constant(held), value)
    high = ops.constant(step.high)
    value = _greater(ops, _lesser(ops, value, high), ops.constant(step.low))
    value = _greater(ops, value, base.value) if step.held else value
    if own.present is None:
        return replace(own, value=value if base.present is None else ops.where(base.present, value, own.value))
    present = ops.both(own.present, ops.opposite(ops.less(high, base.value)))
    if base.present is not None and step.gap == step.column:
        present = ops.both(present, base.present)
    elif base.present is not None:
        value = ops.where(base.present, value, own.value)  # there the base is below every value, and nothing beyond it
    return replace(own, value=value, present=present)


def _sum(ops: Arithmetic[V], step: Sum, columns: Sequence[Operand[V]]) -> list[Operand[V]]:
    """Walk through the columns with what is left, negated: the sum of those that are decided."""
    left = ops.constant(0)
    made: list[V] = []
    for place, one in enumerate(columns[:-1]):
        value = ops.multiply(one.value, ops.constant(step.units[place]))
        lowest = ops.subtract(left, ops.constant(step.rest_high[place]))
        highest = ops.subtract(left, ops.constant(step.rest_low[place]))
        value = _greater(ops, value, _greater(ops, lowest, ops.constant(step.low[place])))
        value = _lesser(ops, value, _lesser(ops, highest, ops.constant(step.high[place])))
        left = ops.subtract(left, value)
        made.append(value)
    made.append(ops.add(left, ops.constant(step.constant)))
    complete: V | None = None
    for one in columns:
        if one.present is not None:
            complete = one.present if complete is None else ops.both(complete, one.present)
    satisfied = []
    for one, value, unit in zip(columns, made, step.units, strict=True):
        # A sum in common units is a multiple of a column's own: nothing is rounded.
        own = value if unit == 1 else ops.floor_divide(value, ops.constant(unit))
        satisfied.append(replace(one, value=own if complete is None else ops.where(complete, own, one.value)))
    return satisfied
