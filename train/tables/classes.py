"""The classes of a target, how many components each gets, and which of its rows are held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.names import check_class_names
from gen_engine.train.errors import DataError
from gen_engine.train.tables.values import Values

MOST_CLASSES = 1_000
PER_ROOT = 0.8
"""Components for the square root of a class's rows. On Census-Income with 30,000 rows, twice as many remember rows of
the smaller class, which held-out rows show."""

HELD_OUT, MOST_HELD_OUT = 0.1, 10_000
"""Share of a class's rows that are held out while it is fitted, and most of them."""

FEWEST_TO_HOLD_OUT = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """The classes of the rows that are fitted to."""

    names: tuple[str, ...]
    rows_Y: tuple[NDArray[np.int64], ...]
    """Rows of each class, ascending."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the rows, by class; they sum to 1."""
        total = sum(map(len, self.rows_Y))
        return tuple(len(rows) / total for rows in self.rows_Y)


def one_class(count: int) -> Classes:
    """All rows as one class, of a table without a target."""
    return Classes(names=("",), rows_Y=(np.arange(count),))


def classes_of(name: str, values: Values, texts: Sequence[str] | None, source: str) -> Classes:
    """Return the classes that a target's values are. Rows without a value are in none.

    Args:
        name: of the target.
        values: of the target.
        texts: the categories of a category; None for a boolean or integer.
        source: what messages call the table.

    Raises:
        DataError: fewer than two classes, too many, or one whose name cannot be shown.
    """
    present = ~values.missing_N
    found, inverse = np.unique(values.values_N[present], return_inverse=True)
    if len(found) < 2:
        one = "no value" if not len(found) else "one value"
        raise DataError(f"--target {name}: {source} has {one} there, and classes need two: leave --target out")
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"--target {name}: {len(found):,} values, and at most {MOST_CLASSES:,} classes are fitted: leave --target "
            "out, and the column is modelled as all others are"
        )
    names = tuple(_class_name(value, values.kind, texts) for value in found.tolist())
    check_class_names(names, f"--target {name}: {source}")
    at = np.flatnonzero(present)
    return Classes(names=names, rows_Y=tuple(at[inverse == place] for place in range(len(found))))


def _class_name(value: int, kind: str, texts: Sequence[str] | None) -> str:
    if texts is not None:
        return texts[value]
    return str(bool(value)).lower() if kind == "boolean" else str(value)


def components_of(counts: Sequence[int], total: int | None) -> list[int]:
    """Return the components of each class, 1 to its rows.

    Args:
        counts: rows of each class.
        total: of all classes; None for the default.
    """
    roots = [math.sqrt(count) for count in counts]
    scale = PER_ROOT if total is None else total / sum(roots)
    return [max(1, min(round(scale * root), count)) for root, count in zip(roots, counts, strict=True)]


def split(rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a class's rows as those that are fitted to and those held out, none of fewer than 50."""
    held = 0 if len(rows) < FEWEST_TO_HOLD_OUT else min(int(HELD_OUT * len(rows)), MOST_HELD_OUT)
    drawn = rng.permutation(rows)
    return np.sort(drawn[held:]), drawn[:held]
