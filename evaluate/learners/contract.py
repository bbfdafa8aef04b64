"""The contract of learners.

Shape suffixes: N rows, K classes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.split import Split


class Model(Protocol):
    """A trained model."""

    def scores(self, split: Split) -> NDArray[np.float64]:
        """Return the probability of each class, float64 [N, K], or the predicted values of a regression, [N]."""
        ...


class Learner(Protocol):
    """Trains models. The same rows, seed and number of threads give the same model."""

    @property
    def name(self) -> str:
        """Part of a figure's name, such as ``cnn``."""
        ...

    @property
    def identity(self) -> str:
        """Its model and how it is trained, for a figure's conditions."""
        ...

    def fit(self, train: Split, seed: int) -> Model:
        """Train on rows whose target is known; every class of the schema has a score, also those without rows."""
        ...
