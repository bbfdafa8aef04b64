"""Metrics of features: sets of vectors compared with real ones.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from gen_engine.evaluate.figures import Better, Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.metrics.contract import Budget, Evaluation
from gen_engine.evaluate.metrics.scalars import is_table
from gen_engine.evaluate.metrics.yardstick import SHUFFLED, Comparison, Features, compare_all, compare_classes

Measured: TypeAlias = Mapping[str, tuple[float, Interval | None]]
"""Figure's name → its value and interval."""


class FeatureMetric(ABC):
    """Compares synthetic features with real ones, in all rows and in each class, beside a floor and a ceiling.

    The ceiling is other real rows against the same real rows; the floor is real rows with every column or pixel
    shuffled on its own.
    """

    name: ClassVar[str]
    question: Question = "faithful"

    better: ClassVar[Mapping[str, Better]]
    """Name of each figure → which way it is better."""

    most_rows: ClassVar[int | None] = 200_000
    """Most rows of each set, if fewer than the budget's: a million rows of three hundred features take gigabytes."""

    most_table_rows: ClassVar[int | None] = None
    """The same for tables, if fewer: with an indicator per category they are wider than features of images."""

    @abstractmethod
    def refusal(self, rows: int, width: int, budget: Budget) -> str | None:
        """Return why figures of so many rows and features are not computed, or None if they are."""

    @abstractmethod
    def measure(self, real_ND: Features, sets: Sequence[Features], budget: Budget) -> Iterator[Measured]:
        """Yield the figures of each set of features against as many real ones; there are enough rows."""

    def conditions(self, budget: Budget) -> Mapping[str, str | int]:
        """Return what the figures depend on besides rows and extractor."""
        return {}

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the figures of all rows, then those of each class."""
        most = self.most_table_rows if is_table(evaluation.train) and self.most_table_rows else self.most_rows
        yield from self._compare(evaluation, compare_all(evaluation, most))
        for comparison in compare_classes(evaluation, most):
            yield from self._compare(evaluation, comparison)

    def _compare(self, evaluation: Evaluation, comparison: Comparison) -> Iterator[Figure]:
        real_ND, synthetic_ND, other_ND = comparison.features(evaluation)
        width, budget = real_ND.shape[1], evaluation.budget
        conditions = {
            **comparison.conditions,
            "features": evaluation.extractor.identity,
            "width": width,
            **self.conditions(budget),
        }
        why = self.refusal(comparison.rows, width, budget) or _not_finite(real_ND, synthetic_ND, other_ND)
        if why is not None:
            for name, better in self.better.items():
                yield not_computed(
                    self.name, name, self.question, better, why, group=comparison.group, conditions=conditions
                )
            return
        found, best = self.measure(real_ND, [synthetic_ND, other_ND], budget)
        floors = self._floors(evaluation, comparison, real_ND)
        for name, better in self.better.items():
            value, interval = found[name]
            ceiling, ceiling_interval = best[name]
            yield Figure(
                metric=self.name,
                name=name,
                question=self.question,
                better=better,
                value=value,
                interval=interval,
                floor=floors.get(name),
                ceiling=Reference(value=ceiling, interval=ceiling_interval, what=comparison.yardstick),
                group=comparison.group,
                conditions=conditions,
            )

    def _floors(self, evaluation: Evaluation, comparison: Comparison, real_ND: Features) -> dict[str, Reference]:
        """Return floors by figure, of as many real rows as shuffled ones; none for a class."""
        if comparison.group is not None:
            return {}
        noise_ND = comparison.noise(evaluation)
        count, width = noise_ND.shape
        if self.refusal(count, width, evaluation.budget) or _not_finite(noise_ND):
            return {}
        (found,) = self.measure(real_ND[:count], [noise_ND], evaluation.budget)
        what = f"{SHUFFLED}, {count:,} rows"
        return {name: Reference(value=value, interval=interval, what=what) for name, (value, interval) in found.items()}


def _not_finite(*sets: Features) -> str | None:
    if all(np.isfinite(rows_ND).all() for rows_ND in sets):
        return None
    return "the extractor returned features that are not finite; check its weights and its range of values"
