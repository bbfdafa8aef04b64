"""The columns that constraints name, read from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.arrow import arrow
from gen_engine.train.tables.constraints.check import Column, violating
from gen_engine.train.tables.constraints.grammar import Constraint, parse
from gen_engine.train.tables.constraints.measure import measure_of
from gen_engine.train.tables.decide import MOST_DIGITS, Decision, unknown_column
from gen_engine.train.tables.values import are_multiples, read_values


def resolve(
    table: Any, decisions: Sequence[Decision], target: str | None, constraints: Sequence[Constraint]
) -> dict[str, Column]:
    """Return the columns of constraints by name; only these are read.

    Args:
        table: `pyarrow.Table`.
        decisions: of its columns.
        target: the column that classes are made of.
        constraints: on its columns.

    Raises:
        ConfigError: a constraint names a column that is not there, is not modelled, or has no order.
        DataError: a value is not of its column's type.
    """
    by_name = {one.name: one for one in decisions}
    columns: dict[str, Column] = {}
    for constraint in constraints:
        for name in constraint.columns:
            if name not in by_name:
                raise unknown_column(f"--constraint {constraint.text!r}", name, list(by_name))
            _refuse_absent(constraint, by_name[name], target)
            if name not in columns:
                columns[name] = _read(table.column(name), by_name[name], constraint.text)
    return columns


def _refuse_absent(constraint: Constraint, decision: Decision, target: str | None) -> None:
    if decision.name == target:
        raise ConfigError(
            f"constraint {constraint.text!r}: {target!r} is the target, whose classes are chosen when samples are "
            "made. Leave --target or the constraint out"
        )
    if decision.type == "drop":
        raise ConfigError(f"constraint {constraint.text!r}: column {decision.name!r} was left out: {decision.reason}")


def _read(column: Any, decision: Decision, text: str) -> Column:
    """Read a column; floats of a file that states no digits have those that their values need, up to six."""
    values = read_values(column, decision)
    if values.form == "real" and values.dtype == "float64":
        present = values.values_N[~values.missing_N]
        for scale in range(MOST_DIGITS + 1):
            if are_multiples(present, scale):
                decision = replace(decision, scale=scale)
                values = read_values(column, decision)
                break
    measure = measure_of(decision.name, decision, values, text)
    return Column(name=decision.name, decision=decision, values=values, measure=measure)


def count_violations(table: Any, constraints: Sequence[str]) -> Mapping[str, int]:
    """Return in how many rows of a table each constraint does not hold.

    Args:
        table: `pyarrow.Table` with types, such as one that was read from samples in Parquet, or in CSV by Arrow.
        constraints: as users write them, and as a bundle's ``training["constraints"]`` has them.

    Raises:
        ConfigError: a constraint is none, or does not fit the columns.
        DataError: a value is too large to compare exactly.
    """
    decisions = [_stated(field) for field in table.schema]
    parsed = {text: parse(text) for text in constraints}
    columns = resolve(table, decisions, None, [one for every in parsed.values() for one in every])
    counts = {}
    for text, every in parsed.items():
        wrong_N = violating(every[0], columns)
        for one in every[1:]:
            wrong_N = wrong_N | violating(one, columns)
        counts[text] = int(wrong_N.sum())
    return counts


def _stated(field: Any) -> Decision:
    """Return the type that a column of Arrow has."""
    types, kind = arrow().types, field.type
    if types.is_decimal(kind):
        return Decision(name=field.name, type="decimal", reason="", arrow=str(kind), scale=kind.scale)
    if types.is_timestamp(kind):
        return Decision(
            name=field.name, type="datetime", reason="", arrow=str(kind), unit=kind.unit, utc=kind.tz is not None
        )
    for name, check in (("integer", types.is_integer), ("float", types.is_floating), ("date", types.is_date)):
        if check(kind):
            return Decision(name=field.name, type=name, reason="", arrow=str(kind), scale=-1)
    if types.is_boolean(kind):
        return Decision(name=field.name, type="boolean", reason="", arrow=str(kind))
    return Decision(name=field.name, type="category", reason="", arrow=str(kind))
