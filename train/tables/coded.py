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
from gen_engine.train.tables.decide import Decision
from gen_engine.train.tables.values import read_values


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """The columns that are generated, in the order of GROUPS."""

    specs: tuple[ColumnSpec, ...]
    codings: tuple[Coding, ...]
    codes_ND: NDArray[np.int32]
    order: tuple[int, ...]
    """Places of the table's columns in `specs`."""

    classes: Classes


def code_columns(kept: Any, decisions: Sequence[Decision], target: str | None, source: str) -> Coded:
    """Return the codes of all columns but the target, whose classes are beside them.

    Args:
        kept: `pyarrow.Table`.
        decisions: of its columns.
        target: the column that classes are made of.
        source: what messages call the table.

    Raises:
        DataError: a value is not of its column's type; or no column is left.
        ConfigError: the target is of a type that has no classes.
    """
    classes = one_class(kept.num_rows)
    found: list[tuple[ColumnSpec, Coding, NDArray[np.int32]]] = []
    for one in decisions:
        if one.type == "drop":
            continue
        values = read_values(kept.column(one.name), one)
        if one.name != target:
            coding, codes_N = fit_coding(values)
            found.append((column_spec(one, values, coding), coding, codes_N))
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
    places = sorted(range(len(found)), key=lambda place: GROUPS.index(found[place][0].group))
    specs, codings, codes = zip(*(found[place] for place in places), strict=True)
    order = np.argsort(places).tolist()
    return Coded(specs=specs, codings=codings, codes_ND=np.stack(codes, axis=1), order=tuple(order), classes=classes)
