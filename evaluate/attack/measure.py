"""What an attack did, measured of the stored samples: the classifier's accuracy before and after, and the changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gen_engine.engine.errors import VerifyError
from gen_engine.engine.plan.derived import Value
from gen_engine.evaluate.attack.classifier import Classifier
from gen_engine.evaluate.attack.perturb import predictions
from gen_engine.evaluate.attack.settings import AttackSettings
from gen_engine.evaluate.attack.source import Source, labels_of
from gen_engine.evaluate.figures import Interval
from gen_engine.evaluate.metrics.intervals import of_proportion


@dataclass(frozen=True)
class Tally:
    """Counts of samples, which add up in any order."""

    samples: int = 0
    right_before: int = 0
    right_after: int = 0
    unchanged: int = 0
    largest_change: int = 0
    """Of 255."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.samples + other.samples,
            self.right_before + other.right_before,
            self.right_after + other.right_after,
            self.unchanged + other.unchanged,
            max(self.largest_change, other.largest_change),
        )

    @property
    def before(self) -> tuple[float, Interval]:
        """Accuracy on the original samples, with its interval."""
        return self.right_before / self.samples, of_proportion(self.right_before, self.samples)

    @property
    def after(self) -> tuple[float, Interval]:
        """Accuracy on the changed samples, with its interval."""
        return self.right_after / self.samples, of_proportion(self.right_after, self.samples)

    def figures(self) -> dict[str, Value]:
        """Return what the manifest records."""
        return {
            "accuracy_before": self.before[0],
            "accuracy_after": self.after[0],
            "largest_change": self.largest_change,
            "unchanged_samples": self.unchanged,
        }


def measure_batch(
    source: Source, changed: Source, classifier: Classifier, settings: AttackSettings, number: int
) -> Tally:
    """Return the counts of one batch of the grid.

    Raises:
        VerifyError: a stored sample has another label, or a value beyond the bound.
    """
    before, after = source.batch(number, settings.batch), changed.batch(number, settings.batch)
    labels_N, where = labels_of(before), f"samples {before.start} to {before.stop - 1}"
    if not np.array_equal(labels_N, labels_of(after)):
        raise VerifyError(f"{changed.place}: {where} have other labels than in {source.place}; make it again")
    old, new = (np.asarray(one[source.image.name]) for one in (before, after))
    change_N = np.abs(new.astype(np.int16) - old).reshape(len(old), -1).max(1)
    if change_N.max() > settings.levels:
        raise VerifyError(
            f"{changed.place}: a value of {where} is changed by {change_N.max()} of 255, and the bound is "
            f"{settings.levels}; make it again"
        )
    right = [int((predictions(classifier, one, settings.batch, where) == labels_N).sum()) for one in (old, new)]
    return Tally(len(old), right[0], right[1], int((change_N == 0).sum()), int(change_N.max()))
