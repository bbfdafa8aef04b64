"""The classifier two-sample test: can a model tell synthetic rows from real ones?

D. Lopez-Paz and M. Oquab, *Revisiting classifier two-sample tests*, 2017. Models are trained on some folds and score
the rows of another; AUC and accuracy are means over the folds, 0.5 when the two distributions are equal. Images are
judged by their features, tables by their columns, the target among them: also what marginals cannot show.

Shape suffixes: N rows, D features or columns, F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.evaluate.figures import Better, Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.metrics import intervals
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.scalars import is_category, is_table, scalar_fields, table_matrix
from gen_engine.evaluate.metrics.yardstick import (
    SHUFFLED,
    Comparison,
    compare_all,
    compare_classes,
    independent,
)

FOLDS: Final = 3
MOST_ROWS: Final = 20_000
"""Most rows of each set: more of them would make the models slower, and any difference certain."""

LEAST_ROWS: Final = 100
"""Fewest rows of each set: below, a model sees less than it needs for an interval narrower than the whole scale."""

THREADED_VALUES: Final = 1 << 19
"""Values of a matrix from which on several threads are faster than one; trees do not depend on their number."""

Matrix: TypeAlias = NDArray[np.floating[Any]]
_SHARED: Final = 1.6
"""Variance of a mean over folds in that of independent folds. Their models share rows: for a linear model of equal
distributions the factor is 2 (1.7 measured with three folds), of distributions far apart near 1, of trees 1.7."""

Judge: TypeAlias = Callable[[Matrix, NDArray[np.int64], Matrix, int], NDArray[np.float64]]
"""(training rows, their classes, rows to score, seed) → the probability that each of these is synthetic."""


def by_logistic(train_ND: Matrix, classes_N: NDArray[np.int64], score_ND: Matrix, seed: int) -> NDArray[np.float64]:
    """Score by a logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = train_ND.mean(0, dtype=np.float64), train_ND.std(0, dtype=np.float64)
    deviation[deviation == 0] = 1
    model = LogisticRegression(C=0.1, max_iter=500, tol=1e-3)
    model.fit((train_ND - mean) / deviation, classes_N)
    return np.asarray(model.predict_proba((score_ND - mean) / deviation)[:, 1])


@dataclass(frozen=True)
class Trees:
    """Scores by gradient-boosted trees."""

    categorical: tuple[int, ...] = ()
    """Columns that hold ids of categories."""

    def __call__(
        self, train_ND: Matrix, classes_N: NDArray[np.int64], score_ND: Matrix, seed: int
    ) -> NDArray[np.float64]:
        """Train with half of the trees' usual number; a column of equal values has no split and does no harm."""
        import lightgbm

        data = lightgbm.Dataset(
            train_ND, classes_N, categorical_feature=list(self.categorical), params={"max_bin": 63, "verbosity": -1}
        )
        options = {
            "objective": "binary",
            "learning_rate": 0.1,
            "num_leaves": 15,
            "min_data_in_leaf": 20,
            "feature_fraction": 0.5 if train_ND.shape[1] > 100 else 1.0,
            "feature_pre_filter": False,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1 if train_ND.size < THREADED_VALUES else usable_cpus(),
            "seed": seed,
            "verbosity": -1,
        }
        model = lightgbm.train(options, data, num_boost_round=50)
        return np.asarray(model.predict(score_ND), np.float64)


@dataclass(frozen=True)
class Verdict:
    """AUC and accuracy of telling two sets apart, with intervals."""

    auc: float
    auc_interval: Interval
    accuracy: float
    accuracy_interval: Interval


def tell_apart(real_ND: Matrix, other_ND: Matrix, judge: Judge, rng: np.random.Generator) -> Verdict:
    """Train and score, fold by fold.

    Within a fold the scores are of rows that the model has not seen, so its AUC is unbiased. Scores of different models
    are not mixed.
    """
    seed = int(rng.integers(1 << 31))
    real_F, other_F = (np.array_split(rng.permutation(len(rows)), FOLDS) for rows in (real_ND, other_ND))
    rows_ND = np.vstack([real_ND, other_ND])
    classes_N = np.repeat([0, 1], [len(real_ND), len(other_ND)])
    areas, errors, right = [], [], []
    for real_N, other_N in zip(real_F, other_F, strict=True):
        held_N = np.concatenate([real_N, other_N + len(real_ND)])
        trained_N = rng.permutation(np.setdiff1d(np.arange(len(rows_ND)), held_N))
        scores_N = judge(rows_ND[trained_N], classes_N[trained_N], rows_ND[held_N], seed)
        area, error = intervals.auc(scores_N[len(real_N) :], scores_N[: len(real_N)])
        areas.append(area)
        errors.append(error)
        right.append((scores_N > 0.5) == (classes_N[held_N] == 1))
    hits = np.concatenate(right)
    return Verdict(
        auc=float(np.mean(areas)),
        auc_interval=intervals.mean_of_folds(areas, errors, shared=_SHARED),
        accuracy=float(hits.mean()),
        accuracy_interval=intervals.of_proportion(hits.sum() / _SHARED, len(hits) / _SHARED),
    )


class TwoSample:
    """Classifier two-sample tests, of all rows and of each class."""

    name = "two-sample"
    question: Question = "faithful"
    better: ClassVar[Mapping[str, Better]] = {"auc": "lower", "accuracy": "lower"}

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield AUC and accuracy of each model, of all rows and then of each class."""
        yield from self._compare(evaluation, compare_all(evaluation, MOST_ROWS))
        for comparison in compare_classes(evaluation, MOST_ROWS):
            yield from self._compare(evaluation, comparison)

    def _compare(self, evaluation: Evaluation, comparison: Comparison) -> Iterator[Figure]:
        table = is_table(evaluation.train)
        what = "columns" if table else evaluation.extractor.identity
        conditions = comparison.conditions | {"features": what, "folds": FOLDS}
        judges = _judges(evaluation, table)
        if comparison.rows < LEAST_ROWS:
            why = f"{comparison.rows:,} rows of each set: at least {LEAST_ROWS} are needed"
            for judge in judges:
                for kind, better in self.better.items():
                    yield not_computed(
                        self.name,
                        f"two-sample.{judge}.{kind}",
                        self.question,
                        better,
                        why,
                        group=comparison.group,
                        conditions=conditions,
                    )
            return
        real_ND, synthetic_ND, other_ND, noise_ND = _rows(evaluation, comparison, table)
        for judge, by in judges.items():
            sets = [synthetic_ND, other_ND] + ([noise_ND] if noise_ND is not None else [])
            verdicts = [
                tell_apart(real_ND[: len(rows)], rows, by, evaluation.random("two-sample", judge)) for rows in sets
            ]
            yield from self._figures(f"two-sample.{judge}", verdicts, comparison, conditions)

    def _figures(
        self, name: str, verdicts: list[Verdict], comparison: Comparison, conditions: Mapping[str, Any]
    ) -> Iterator[Figure]:
        found, ceiling, *floors = verdicts
        for kind, better in self.better.items():
            references = [
                Reference(value=getattr(one, kind), interval=getattr(one, f"{kind}_interval"), what=what)
                for one, what in zip([ceiling, *floors], [comparison.yardstick, SHUFFLED], strict=False)
            ]
            yield Figure(
                metric=self.name,
                name=f"{name}.{kind}",
                question=self.question,
                better=better,
                value=getattr(found, kind),
                interval=getattr(found, f"{kind}_interval"),
                floor=references[1] if floors else None,
                ceiling=references[0],
                group=comparison.group,
                conditions=conditions,
            )


def _judges(evaluation: Evaluation, table: bool) -> dict[str, Judge]:
    if not table:
        return {"logistic": by_logistic, "trees": Trees()}
    fields = scalar_fields(evaluation.train)
    return {"trees": Trees(tuple(place for place, one in enumerate(fields) if is_category(one)))}


def _rows(evaluation: Evaluation, comparison: Comparison, table: bool) -> tuple[Matrix, Matrix, Matrix, Matrix | None]:
    """Return what a model sees of the real, synthetic and other real rows, and of shuffled ones for the whole."""
    if not table:
        noise = None if comparison.group is not None else comparison.noise(evaluation)
        return *comparison.features(evaluation), noise
    real = table_matrix(evaluation.train, comparison.real_N)
    synthetic = table_matrix(evaluation.synthetic, comparison.synthetic_N)
    other = table_matrix(comparison.other, comparison.other_N)
    if comparison.group is not None:
        return real, synthetic, other, None
    shuffled = independent(evaluation.train, comparison.real_N, evaluation.random("floor"))
    return real, synthetic, other, table_matrix(shuffled, np.arange(len(shuffled)))
