"""From a table that was read to the codes that models of it are fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.tables.classes import Classes, classes_of, one_class
from gen_engine.train.tables.coding import Coding, fit_coding
from gen_engine.train.tables.columns import GROUPS, ColumnSpec, column_spec
from gen_engine.train.tables.constraints.fit import fit_constraints
from gen_engine.train.tables.constraints.grammar import Constraint
from gen_engine.train.tables.constraints.resolve import resolve
from gen_engine.train.tables.constraints.steps import Step
from gen_engine.train.tables.decide import Decision
from gen_engine.train.tables.values import Values, read_values


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """The columns that are generated, in the order of GROUPS."""

    specs: tuple[ColumnSpec, ...]
    codings: tuple[Coding, ...]
    codes_ND: NDArray[np.int32]
    order: tuple[int, ...]
    """Places of the table's columns in `specs`; the others are modelled for the constraints' sake."""

    classes: Classes
    steps: tuple[Step, ...] = ()
    """From values of these columns to values that satisfy the constraints."""


def code_columns(
    kept: Any, decisions: Sequence[Decision], target: str | None, source: str, constraints: Sequence[Constraint] = ()
) -> Coded:
    """Return the codes of all columns but the target, whose classes are beside them.

    Args:
        kept: `pyarrow.Table`.
        decisions: of its columns.
        target: the column that classes are made of.
        source: what messages call the table.
        constraints: on its columns.

    Raises:
        DataError: a value is not of its column's type; no column is left; or a row violates a constraint.
        ConfigError: the target is of a type that has no classes; or a constraint does not fit the columns.
    """
    columns = resolve(kept, decisions, target, constraints)
    fitted = fit_constraints(constraints, columns, source, [one.name for one in decisions])
    classes = one_class(kept.num_rows)
    found: list[tuple[ColumnSpec, Coding, NDArray[np.int32]]] = []
    for one in decisions:
        if one.type == "drop":
            continue
        if one.name in fitted.columns:
            found.append(_code(*fitted.columns[one.name]))
            continue
        values = read_values(kept.column(one.name), one)
        if one.name != target:
            found.append(_code(one, values))
            continue
        if values.kind not in ("category", "boolean", "integer"):
            raise ConfigError(
                f"--target {target}: it is {values.kind}, and classes are made of categories, booleans or integers; "
                f"declare it with --column {target}=category, or leave --target out"
            )
        classes = classes_of(one.name, values, values.categories if values.kind == "category" else None, source)
    if not found:
        reasons = "; ".join(one.note() for one in decisions if one.type == "drop")
        raise DataError(f"{source} has no column to model besides the target. {reasons}")
    visible = len(found)
    found += [_code(*one) for one in fitted.hidden]
    places = sorted(range(len(found)), key=lambda place: GROUPS.index(found[place][0].group))
    specs, codings, codes = zip(*(found[place] for place in places), strict=True)
    order = np.argsort(places)[:visible].tolist()
    return Coded(
        specs=specs,
        codings=codings,
        codes_ND=np.stack(codes, axis=1),
        order=tuple(order),
        classes=classes,
        steps=fitted.steps,
    )


def _code(decision: Decision, values: Values) -> tuple[ColumnSpec, Coding, NDArray[np.int32]]:
    coding, codes_N = fit_coding(values)
    return column_spec(decision, values, coding), coding, codes_N
