"""A table's constraints to what is modelled in place of its columns, and the steps back.

A column with others below it is modelled as its gap to the greatest of these, so that every code of the model keeps the
order. A sum needs no columns in place of its own: all are modelled, and what was drawn is completed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.tables.constraints.arithmetic import NUMPY
from gen_engine.train.tables.constraints.check import (
    WIDEST,
    Column,
    below_of,
    common_units,
    refuse_violated,
)
from gen_engine.train.tables.constraints.consistent import belows, in_order, refuse_contradictions, refuse_two_sources
from gen_engine.train.tables.constraints.grammar import Constraint, Limit, Order, Total
from gen_engine.train.tables.constraints.measure import bound_of
from gen_engine.train.tables.constraints.satisfy import least
from gen_engine.train.tables.constraints.steps import Below, Clip, Gap, Step, Sum
from gen_engine.train.tables.decide import Decision
from gen_engine.train.tables.values import Values

HELD = 0.05
"""Share of a column's rows from which a value is modelled as itself, if it is also five times as frequent as others:
zero where amounts are zero, or a day that stands for none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """What constraints come to in a table."""

    columns: Mapping[str, tuple[Decision, Values]]
    """What is modelled of these columns, by name: their values, or gaps in their place."""

    hidden: tuple[tuple[Decision, Values], ...]
    """What is modelled beside them."""

    steps: tuple[Step, ...]


def fit_constraints(
    constraints: Sequence[Constraint], columns: Mapping[str, Column], source: str, names: Sequence[str] = ()
) -> Fitted:
    """Return what is modelled in place of columns, and the steps from rows of a model to rows that satisfy.

    Args:
        constraints: on columns of the table.
        columns: those that they are about.
        source: what messages call the table.
        names: of all its columns.

    Raises:
        ConfigError: constraints contradict each other, or are more than one column can be computed from.
        DataError: the table violates one, or its values do not fit into 64 bits.
    """
    orders = [one for one in constraints if isinstance(one, Order)]
    totals = [one for one in constraints if isinstance(one, Total)]
    sequence = in_order(orders)
    refuse_contradictions(constraints, sequence)
    refuse_two_sources(orders, totals)
    refuse_violated(constraints, columns, source)
    steps: list[Step] = [_sum(one, columns) for one in totals]
    steps += [_clip(one) for name, one in columns.items() if one.values.form == "real" and not belows(name, orders)]
    modelled = {name: (one.decision, one.values) for name, one in columns.items()}
    hidden: list[tuple[Decision, Values]] = []
    highs: dict[str, Any] = {name: one.bounds()[1] for name, one in columns.items()}
    for name in sequence:
        above = belows(name, orders)
        if above:
            below = [below_of(one, columns) for one in above]
            step, gap = _gap(columns, name, _unused(f"{name} above those below", names), below, highs)
            highs[name] = _within(step.high, columns[name], constraints)
            steps.append(step)
            if step.gap == name:
                modelled[name] = (columns[name].decision, gap)
            else:
                hidden.append((replace(columns[name].decision, name=step.gap), gap))
    return Fitted(columns=modelled, hidden=tuple(hidden), steps=tuple(steps))


def _unused(name: str, names: Sequence[str]) -> str:
    while name in names:
        name += "'"
    return name


def _clip(column: Column) -> Clip:
    low, high = column.bounds()
    return Clip(column=column.name, low=low, high=high)


def _gap(
    columns: Mapping[str, Column], name: str, hidden: str, below: Sequence[Below], highs: Mapping[str, Any]
) -> tuple[Gap, Values]:
    """Return the step of a column with others below it, and the gap.

    Args:
        columns: by name.
        name: of the column.
        hidden: name of the gap if it cannot take the column's place.
        below: the others.
        highs: greatest value of each column in samples.
    """
    column = columns[name]
    upper = column.operand()
    base = least(NUMPY, below, upper, [columns[one.column].operand() for one in below])
    assert base.present is not None
    (low, high), known_N = column.bounds(), column.present & base.present
    if not upper.real:
        _refuse_wide(name, low, high, base.value[base.present])
    # What floats lose in a margin is less than a unit in the last place or two.
    gap_K = np.maximum(upper.value[known_N] - base.value[known_N], 0)
    held = _held(upper.value[known_N], gap_K)
    for place, value in enumerate(held):
        gap_K[upper.value[known_N] == value] = -1 - place
    if upper.real and column.present.all():
        lower = [(columns[one.column].operand(), np.array(highs[one.column])) for one in below]
        tops = [replace(operand, value=top, present=None) for operand, top in lower]
        high = max(high, float(least(NUMPY, below, upper, tops).value))
    always = any(columns[one.column].present.all() for one in below) or not column.present.all()
    in_place = always and not (column.present & ~base.present).any()
    gap_N = column.values.values_N.copy() if in_place else _drawn(gap_K, upper.value)
    gap_N[known_N] = gap_K
    missing_N = column.values.missing_N if in_place else np.zeros(len(gap_N), bool)
    gap = name if in_place else hidden
    step = Gap(column=name, gap=gap, below=tuple(below), low=low, high=high, held=held)
    return step, replace(column.values, values_N=gap_N, missing_N=missing_N)


def _within(high: Any, column: Column, constraints: Sequence[Constraint]) -> Any:
    """Return the greatest value of a column in samples; ConfigError if the margin of floats takes it beyond a limit."""
    for one in constraints:
        if isinstance(one, Limit) and one.upper and one.column == column.name and column.measure.unit is None:
            bound = bound_of(one.constant, column.measure, upper=True, strict=one.strict)
            if np.dtype(column.measure.dtype).type(high) > bound:
                raise ConfigError(
                    f"constraint {one.text!r}: floats below {column.name!r} come so close to {bound} that no other is "
                    "left between them. Leave the constraint out, or write '<=' instead of '<'"
                )
    return high


def _drawn(gap_K: NDArray[Any], values_N: NDArray[Any]) -> NDArray[Any]:
    """Return known gaps at random, for rows that have none: so a model learns nothing of these rows by their gaps."""
    rng = np.random.Generator(np.random.PCG64(0))
    return rng.choice(gap_K, len(values_N)) if len(gap_K) else np.zeros_like(values_N)


def _refuse_wide(name: str, low: int, high: int, base_K: NDArray[Any]) -> None:
    """DataError unless a gap, and its sum with what is below, are integers of 64 bits."""
    ends = [low, high, *((int(base_K.min()), int(base_K.max())) if len(base_K) else ())]
    apart = max(ends) - min(ends)
    if max(apart, *map(abs, ends)) >= WIDEST:
        raise DataError(
            f"column {name!r}, {low:,} to {high:,}, and those below it lie up to {apart:,} apart, and constraints are "
            "computed below 2^62. Leave the constraint out, or write the columns in a larger unit"
        )


def _held(values_K: NDArray[Any], gap_K: NDArray[Any]) -> tuple[Any, ...]:
    """Return frequent values that are not frequent because a gap is."""
    if not len(values_K):
        return ()
    distinct, inverse, counts = np.unique(values_K, return_inverse=True, return_counts=True)
    held = []
    for place in np.flatnonzero(counts >= max(HELD, 5 / len(distinct)) * len(values_K)).tolist():
        gaps = np.unique(gap_K[inverse == place], return_counts=True)[1]
        if gaps.max() < 0.5 * counts[place]:
            held.append(distinct[place].item())
    return tuple(held)


def _sum(one: Total, columns: Mapping[str, Column]) -> Sum:
    """Return the step of a sum. What is left goes to the total, or to the part that varies most."""
    signed, constant = common_units(one, columns)
    complete_N = np.logical_and.reduce([columns[name].present for name in signed])
    if not complete_N.any():
        raise DataError(
            f"constraint {one.text!r}: no row has values of all its columns, so nothing is known of it. Leave it out"
        )
    finest = min(map(abs, signed.values()))
    candidates = [name for name, unit in signed.items() if abs(unit) == finest]
    last = (
        str(one.total)
        if one.total in candidates
        else max(candidates, key=lambda name: float(np.std(columns[name].values.values_N[complete_N])))
    )
    names = [*sorted((name for name in signed if name != last), key=lambda name: -abs(signed[name])), last]
    units = [signed[name] for name in names]
    ranges = [sorted(unit * value for value in columns[name].bounds()) for name, unit in zip(names, units, strict=True)]
    rest: list[tuple[int, int]] = []
    low, high = ranges[-1][0] - constant, ranges[-1][1] - constant
    for unit, (least_value, most_value) in zip(units[-2::-1], ranges[-2::-1], strict=True):
        size = abs(unit)
        low, high = -(-low // size) * size, high // size * size
        rest.insert(0, (low, high))
        low, high = low + least_value, high + most_value
    rest.append((-constant, -constant))
    return Sum(
        columns=tuple(names),
        units=tuple(units),
        low=tuple(one[0] for one in ranges),
        high=tuple(one[1] for one in ranges),
        rest_low=tuple(one[0] for one in rest),
        rest_high=tuple(one[1] for one in rest),
        constant=constant,
    )
