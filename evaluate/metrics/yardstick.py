"""Which rows are compared: as many of each set, and real against real at that size as the yardstick.

Estimates of distances between distributions depend on the number of rows. So a figure compares n synthetic rows with
n training rows, and its ceiling compares n other real rows with the same n training rows.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Ragged
from gen_engine.evaluate.figures import Condition
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.split import Split

Features = NDArray[np.float32]
Ids = NDArray[np.intp]

FLOOR_ROWS: Final = 5_000
"""Most rows of a floor: it is far from the figure, and features of as many shuffled images would take minutes."""

SHUFFLED: Final = "real rows with each column shuffled"
"""What a floor is, in words: right marginals, and nothing else right."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows of equal number: which to compare with which."""

    synthetic_N: Ids
    """Rows of the synthetic split."""

    real_N: Ids
    """Rows of the training split."""

    other: Split
    """Where the real rows of the yardstick come from: the test split, else the training split."""

    other_N: Ids
    """Rows of it; none is also in ``real_N``."""

    group: str | None = None
    """The class that all rows are of; None for all classes."""

    @property
    def rows(self) -> int:
        """Rows of each set."""
        return len(self.real_N)

    @property
    def yardstick(self) -> str:
        """What a ceiling is, in words."""
        return "test against train" if self.other.role == "test" else "halves of train"

    @property
    def conditions(self) -> dict[str, Condition]:
        """What the figures of this comparison depend on."""
        return {"rows": self.rows, "yardstick": self.yardstick}

    def features(self, evaluation: Evaluation) -> tuple[Features, Features, Features]:
        """Return the features of the real, the synthetic and the other real rows, float32 [N, D] each."""
        real_ND = evaluation.features_of(evaluation.train, self.real_N)
        synthetic_ND = evaluation.features_of(evaluation.synthetic, self.synthetic_N)
        return real_ND, synthetic_ND, evaluation.features_of(self.other, self.other_N)

    def noise(self, evaluation: Evaluation) -> Features:
        """Return features of shuffled real rows, the floor of every metric of features, float32 [N, D]."""

        def make() -> Features:
            rows_N = self.real_N[:FLOOR_ROWS]
            shuffled = independent(evaluation.train, rows_N, evaluation.random("floor"))
            return evaluation.extractor.features(shuffled)

        return evaluation.once(f"features of shuffled rows, {min(self.rows, FLOOR_ROWS)}", make)


def compare_all(evaluation: Evaluation, most: int | None = None) -> Comparison:
    """Return the comparison of the whole splits, of at most ``budget.rows`` and ``most`` rows."""
    return _compare(evaluation, None, most)


def compare_classes(evaluation: Evaluation, most: int | None = None) -> Iterator[Comparison]:
    """Yield a comparison for each class of the target, some of which may have no rows; none without classes."""
    for class_id in range(len(evaluation.train.classes or ())):
        yield _compare(evaluation, class_id, most)


def _compare(evaluation: Evaluation, class_id: int | None, most: int | None) -> Comparison:
    """Draw rows without replacement: the same ones for every metric, or the first of them."""
    train_N, synthetic_N = _rows(evaluation.train, class_id), _rows(evaluation.synthetic, class_id)
    rng = evaluation.random("rows", "all" if class_id is None else class_id)
    train_N, synthetic_N = rng.permutation(train_N), rng.permutation(synthetic_N)
    if evaluation.test is None:
        other, train_N, other_N = evaluation.train, train_N[: len(train_N) // 2], train_N[len(train_N) // 2 :]
    else:
        other, other_N = evaluation.test, rng.permutation(_rows(evaluation.test, class_id))
    count = min(len(train_N), len(synthetic_N), len(other_N), evaluation.budget.rows, most or evaluation.budget.rows)
    names = evaluation.train.classes
    return Comparison(
        synthetic_N=synthetic_N[:count],
        real_N=train_N[:count],
        other=other,
        other_N=other_N[:count],
        group=None if class_id is None or names is None else names[class_id],
    )


def _rows(split: Split, class_id: int | None) -> Ids:
    class_ids = split.class_ids
    if class_id is None or class_ids is None:
        return np.arange(len(split))
    return np.flatnonzero(class_ids == class_id)


def independent(split: Split, rows_N: Ids, rng: np.random.Generator) -> Split:
    """Return rows in which every column, or every pixel, is shuffled on its own."""
    taken = split.take(rows_N)
    columns = {
        name: column if isinstance(column, Ragged) else _shuffled(column, rng) for name, column in taken.columns.items()
    }
    return replace(taken, columns=columns)


def _shuffled(column: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    places = column.reshape(len(column), -1).copy()
    for place in range(places.shape[1]):
        places[:, place] = rng.permutation(places[:, place])
    return places.reshape(column.shape)
