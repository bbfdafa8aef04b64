"""Gradient-boosted trees, by LightGBM: classification and regression on the columns of a table.

Shape suffixes: N rows, D columns, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.evaluate.metrics.scalars import categories, is_category, numbers, scalar_fields
from gen_engine.evaluate.metrics.two_sample import THREADED_VALUES
from gen_engine.evaluate.split import Split

ROUNDS: Final = 150


@dataclass(frozen=True)
class Trees:
    """Trains trees for a fixed number of rounds: no row is spent on early stopping."""

    rounds: int = ROUNDS
    name: str = "trees"

    @property
    def identity(self) -> str:
        """The library and its settings."""
        return f"LightGBM, {self.rounds} rounds of 31 leaves"

    def fit(self, train: Split, seed: int) -> TreesModel:
        """Train on a split's columns and target; rows without a target are left out."""
        import lightgbm

        target_N, objective, classes = _target(train)
        known = np.flatnonzero(np.isfinite(target_N) & (target_N >= 0 if classes else True))
        present = np.unique(target_N[known]).astype(np.int64) if classes else None
        if present is not None and len(present) < 2:
            return TreesModel(None, present, len(classes or ()))
        labels_N = target_N[known] if present is None else np.searchsorted(present, target_N[known])
        matrix_ND, categorical = inputs_of(train)
        count = None if present is None else len(present)
        options = {
            "objective": objective if count is None or count > 2 else "binary",
            "learning_rate": 0.08,
            "num_leaves": 31,
            "min_data_in_leaf": min(20, max(1, len(known) // 20)),
            "feature_pre_filter": False,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1 if matrix_ND.size < THREADED_VALUES else usable_cpus(),
            "bagging_fraction": 0.9,
            "bagging_freq": 1,
            "feature_fraction": 0.9,
            "seed": seed,
            "verbosity": -1,
            **({"num_class": count} if count is not None and count > 2 else {}),
        }
        data = lightgbm.Dataset(matrix_ND[known], labels_N, categorical_feature=categorical, params={"verbosity": -1})
        return TreesModel(lightgbm.train(options, data, num_boost_round=self.rounds), present, len(classes or ()))


@dataclass(frozen=True, eq=False)
class TreesModel:
    """Trained trees."""

    booster: Any
    present: NDArray[np.int64] | None
    """Ids of the classes that have rows; None for a regression."""

    classes: int

    def scores(self, split: Split) -> NDArray[np.float64]:
        """Return the probability of each class, [N, K], or the predicted values, [N], float64."""
        if self.present is None:
            return np.asarray(self.booster.predict(inputs_of(split)[0]), np.float64)
        scores_NK = np.zeros((len(split), self.classes))
        if self.booster is None:
            scores_NK[:, self.present] = 1
            return scores_NK
        found = np.asarray(self.booster.predict(inputs_of(split)[0]), np.float64)
        scores_NK[:, self.present] = np.stack([1 - found, found], 1) if found.ndim == 1 else found
        return scores_NK


def inputs_of(split: Split) -> tuple[NDArray[np.float64], list[int]]:
    """Return the columns that a model sees, float64 [N, D], NaN where missing, and which hold categories."""
    fields = [one for one in scalar_fields(split) if one.name != split.target]
    matrix_ND = np.empty((len(split), len(fields)))
    for place, field in enumerate(fields):
        if is_category(field):
            ids = categories(split, field.name)
            matrix_ND[:, place] = np.where(ids < 0, np.nan, ids)
        else:
            matrix_ND[:, place] = numbers(split, field.name)
    return matrix_ND, [place for place, field in enumerate(fields) if is_category(field)]


def _target(split: Split) -> tuple[NDArray[np.float64], str, tuple[str, ...] | None]:
    if split.class_ids is not None:
        return split.class_ids.astype(np.float64), "multiclass", split.classes
    values = split.target_values
    assert values is not None
    return values, "regression", None
