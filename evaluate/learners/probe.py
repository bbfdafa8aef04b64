"""A linear probe: logistic regression on features.

Shape suffixes: N rows, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Schema
from gen_engine.evaluate.split import NamedField, Split

FEATURES: Final = "features"


def with_features(split: Split, features_ND: NDArray[np.float32]) -> Split:
    """Return a split whose rows are feature vectors with the target beside them."""
    assert split.target is not None
    vector = NamedField(name=FEATURES, kind="vector", dtype="float32", shape=(features_ND.shape[1],))
    return replace(
        split,
        schema=Schema((vector, split.schema[split.target])),
        columns={FEATURES: features_ND, split.target: split[split.target]},
    )


@dataclass(frozen=True)
class Probe:
    """Trains a logistic regression on the standardised features of :func:`with_features`.

    Args:
        features: identity of what made them.
    """

    features: str
    name: str = "probe"

    @property
    def identity(self) -> str:
        """The probe and its features."""
        return f"logistic regression on {self.features}"

    def fit(self, train: Split, seed: int) -> ProbeModel:
        """Train on a split's features and classes; a single class is always predicted."""
        from sklearn.linear_model import LogisticRegression

        classes, ids = train.classes, train.class_ids
        assert classes is not None
        assert ids is not None
        features_ND = _features(train)
        mean_D, spread_D = features_ND.mean(0), features_ND.std(0)
        spread_D[spread_D == 0] = 1
        present = np.unique(ids)
        model = None
        if len(present) > 1:
            model = LogisticRegression(C=0.1, max_iter=300, tol=1e-3)
            model.fit((features_ND - mean_D) / spread_D, ids)
        return ProbeModel(mean_D, spread_D, present, len(classes), model)


@dataclass(frozen=True, eq=False)
class ProbeModel:
    """A trained probe."""

    mean_D: NDArray[np.float64]
    spread_D: NDArray[np.float64]
    present: NDArray[np.int64]
    classes: int
    model: Any

    def scores(self, split: Split) -> NDArray[np.float64]:
        """Return the probability of each class, float64 [N, K]; 0 for a class that it has not seen."""
        scores_NK = np.zeros((len(split), self.classes))
        if self.model is None:
            scores_NK[:, self.present] = 1
        else:
            features_ND = (_features(split) - self.mean_D) / self.spread_D
            scores_NK[:, self.present] = self.model.predict_proba(features_ND)
        return scores_NK


def _features(split: Split) -> NDArray[np.float64]:
    column: Any = split[FEATURES]
    return np.asarray(column, np.float64)
