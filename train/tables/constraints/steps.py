"""The steps from values that were drawn to values that satisfy the constraints, as a run records them.

Values are those of grids, int64, or real floats, float64; a step names its columns. They are carried out by
:mod:`gen_engine.train.tables.constraints.satisfy`, in the order of the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from gen_engine.engine.base.parse import Fields, flag, integer, list_of, number, one_of, prose
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.train.tables.columns import ColumnSpec


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Keeps a column between two of its values, which rounding may leave."""

    column: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Below:
    """A column that another is not less than: the least value that the other one may have is computed from it."""

    column: str
    form: str
    """How: *grid*, ⌊(v·times + shift) / divisor⌋ of integers; *real*, v as a float, and the margin above it; *ceiling*,
    the least of the other's grid whose float is not less than v as a float."""

    times: int = 1
    shift: int = 0
    divisor: int = 1
    strict: bool = False
    """Of *ceiling*: whether the float has to be greater. Of *real*: whether the margin is kept from every value, not
    only from those that float32, the other's type, does not hold."""

    relative: float = 0.0
    """Of *real*: the margin is |v|·relative + absolute."""

    absolute: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A column that was modelled as what it has above the greatest of other columns, where these have values."""

    column: str
    gap: str
    """The column that was modelled as the gap: itself, if the table has no value of it where those below have none;
    then samples have none either. Otherwise one that is in no sample, and the column keeps its own values there."""

    below: tuple[Below, ...]
    low: int | float
    """The least value of the column in the table."""

    high: int | float
    """The greatest. It is a missing value where another column is beyond it, as in the table."""

    held: tuple[int | float, ...]
    """Frequent values, which were modelled as -1, -2, … instead of as gaps."""


@dataclass(frozen=True, kw_only=True)
class Sum:
    """Columns whose sum, with signs and in a common unit, is a constant where all have values.

    Each but the last keeps its value, or takes the nearest that the later ones can complete within their ranges. The
    last one takes what is left.
    """

    columns: tuple[str, ...]
    units: tuple[int, ...]
    """Of a column's grid, in common units; negative for one that is subtracted."""

    low: tuple[int, ...]
    """Least value of the column times its unit, in common units."""

    high: tuple[int, ...]
    rest_low: tuple[int, ...]
    """Least sum of the columns after it, minus the constant, rounded up to its unit."""

    rest_high: tuple[int, ...]
    constant: int


Step: TypeAlias = Clip | Gap | Sum

_int64 = integer(-(2**63), 2**63 - 1)
_KINDS = {"clip": Clip, "gap": Gap, "sum": Sum}


def steps_to_json(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    """Plain nested values."""
    names = {kind: name for name, kind in _KINDS.items()}
    return [{"step": names[type(step)], **asdict(step)} for step in steps]


def read_step(value: Any, where: str) -> Step:
    """Parse; DocumentError naming the field."""
    with Fields(value, where) as taken:
        kind = taken.take("step", one_of(*_KINDS))
        step: Step = _READ[kind](taken)
        return step


def _value(value: Any, where: str) -> int | float:
    """A value of a grid or a float."""
    read = _int64 if isinstance(value, int) else number(-1.8e308, 1.8e308)
    made: int | float = read(value, where)
    return made


def _clip(taken: Fields) -> Clip:
    return Clip(column=taken.take("column", prose), low=taken.take("low", _value), high=taken.take("high", _value))


def _below(value: Any, where: str) -> Below:
    with Fields(value, where) as taken:
        return Below(
            column=taken.take("column", prose),
            form=taken.take("form", one_of("grid", "real", "ceiling")),
            times=taken.take("times", integer(1, 2**63 - 1)),
            shift=taken.take("shift", integer(0, 2**63 - 1)),
            divisor=taken.take("divisor", integer(1, 2**63 - 1)),
            strict=taken.take("strict", flag),
            relative=taken.take("relative", number(0, 1)),
            absolute=taken.take("absolute", number(0, 1)),
        )


def _gap(taken: Fields) -> Gap:
    return Gap(
        column=taken.take("column", prose),
        gap=taken.take("gap", prose),
        below=taken.take("below", list_of(_below, 1)),
        low=taken.take("low", _value),
        high=taken.take("high", _value),
        held=taken.take("held", list_of(_value)),
    )


def _sum(taken: Fields) -> Sum:
    columns = taken.take("columns", list_of(prose, 1))
    many = list_of(_int64, len(columns), len(columns))
    made = Sum(
        columns=columns,
        units=taken.take("units", many),
        low=taken.take("low", many),
        high=taken.take("high", many),
        rest_low=taken.take("rest_low", many),
        rest_high=taken.take("rest_high", many),
        constant=taken.take("constant", _int64),
    )
    if 0 in made.units:
        raise DocumentError("units", "0 is no unit")
    return made


_READ: Mapping[str, Any] = {"clip": _clip, "gap": _gap, "sum": _sum}


def hidden_columns(steps: Sequence[Step]) -> set[str]:
    """Return the names of the columns that are modelled, and in no sample."""
    return {step.gap for step in steps if isinstance(step, Gap) and step.gap != step.column}


def check_steps(steps: tuple[Step, ...], columns: tuple[ColumnSpec, ...]) -> None:
    """ValueError unless the steps are of these columns, with values of their forms."""
    reals = {one.name: one.is_real for one in columns}
    for step in steps:
        names = step.columns if isinstance(step, Sum) else (step.column,)
        names += (step.gap, *(one.column for one in step.below)) if isinstance(step, Gap) else ()
        for name in names:
            if name not in reals:
                raise ValueError(f"a constraint is about {name!r}, which is no column")
        if isinstance(step, Sum):
            wrong = any(reals[name] for name in names)
        elif isinstance(step, Clip):
            wrong = not reals[step.column]
        else:
            values = (step.low, step.high, *step.held)
            wrong = any(isinstance(value, float) != reals[step.column] for value in values)
            wrong |= reals[step.gap] != reals[step.column]
            wrong |= any((one.form == "real") != reals[step.column] for one in step.below)
            wrong |= any(one.form == "grid" and reals[one.column] for one in step.below)
        if wrong:
            raise ValueError(f"the constraint of {names[0]!r} is not of its type")
