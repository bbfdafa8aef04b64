"""Features of a classifier that is trained here, on the real training rows: the default for images with classes.

It sees what tells these classes apart, at their own size, and needs no download.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.data.overlap import split_digest
from gen_engine.evaluate.metrics.contract import Extractor
from gen_engine.evaluate.split import Split

if TYPE_CHECKING:
    from gen_engine.evaluate.learners.cnn import CnnModel


_STEPS: Final = 1_000
"""Enough for features; the accuracy of a longer training does not matter."""


@dataclass(frozen=True, eq=False)
class ClassifierFeatures:
    """What the classifier's last layer sees."""

    identity: str
    model: CnnModel

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return float32 [N, 128]."""
        return self.model.features(split)


def open_classifier(argument: str | None, sides: Sides, seed: int) -> Extractor:
    """Train the classifier.

    Raises:
        RequestError: the images have no classes, or fewer than two.
    """
    from gen_engine.evaluate.learners.cnn import Cnn

    if argument is not None:
        raise RequestError(f"--features classifier:{argument}: it takes no argument")
    train = sides.train
    if train.class_ids is None or len(np.unique(train.class_ids)) < 2:
        raise RequestError("--features classifier needs images of two classes or more: use --features pca")
    learner = Cnn(_STEPS)
    identity = f"classifier: {learner.identity}, on train {split_digest(train)[:12]}, seed {seed}"
    return ClassifierFeatures(identity, learner.fit(train, seed))
