"""The columns of a table: fields with one number or one category per row.

Shape suffixes: N rows, D columns.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field
from gen_engine.evaluate.split import Split

NUMBERS: Final = ("integer", "float")
CATEGORIES: Final = ("category", "label", "boolean")
BOOKKEEPING: Final = ("index", "seed", "latents")


def scalar_fields(split: Split) -> tuple[Field, ...]:
    """Return the fields with a number, a category or a boolean per row, the target among them."""
    return tuple(one for one in split.schema if one.kind in NUMBERS + CATEGORIES and not one.shape)


def other_fields(split: Split) -> tuple[Field, ...]:
    """Return the fields that are compared neither as columns of a table nor as features: text, audio and the like."""
    scalars = scalar_fields(split)
    return tuple(
        one for one in split.schema if one not in scalars and one.kind not in (*BOOKKEEPING, "image", "vector")
    )


def is_table(split: Split) -> bool:
    """Return whether what a model sees of a row is numbers and categories alone, text aside."""
    inputs = [one for one in split.inputs if one.kind != "string"]
    scalars = scalar_fields(split)
    return bool(inputs) and all(one in scalars for one in inputs)


def numbers(split: Split, name: str) -> NDArray[np.float64]:
    """Return a numeric column, float64 [N]; missing ones are NaN."""
    column: Any = split[name]
    return np.asarray(column, np.float64)


def categories(split: Split, name: str) -> NDArray[np.int64]:
    """Return a column's ids of categories, int64 [N]; missing ones are -1."""
    column: Any = split[name]
    return np.asarray(column, np.int64)


def is_category(field: Field) -> bool:
    """Return whether the values of a scalar field have no order."""
    return field.kind in CATEGORIES


def table_matrix(split: Split, rows_N: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the scalar columns side by side, float64 [N, D]: numbers, ids of categories, NaN where missing."""
    fields = scalar_fields(split)
    matrix_ND = np.empty((len(rows_N), len(fields)))
    for place, field in enumerate(fields):
        matrix_ND[:, place] = numbers(split, field.name)[rows_N]
        if is_category(field):
            matrix_ND[matrix_ND[:, place] < 0, place] = np.nan
    return matrix_ND
