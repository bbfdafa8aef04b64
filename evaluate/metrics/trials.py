"""Training models on some rows and scoring them on the test rows: what metrics of usefulness share.

Shape suffixes: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.figures import Better, Condition, Interval, Reference
from gen_engine.evaluate.learners.contract import Learner
from gen_engine.evaluate.metrics import scores
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.scalars import is_table
from gen_engine.evaluate.metrics.scores import Results
from gen_engine.evaluate.split import Split

PROBE_ROWS = 20_000
"""Most rows of a probe's training: its accuracy no longer grows, and its time does."""

LEAST_TEST_ROWS = 20

SMALL = 5_000
"""Rows up to which the choice of training rows matters as much as the test rows do."""

MOST_TEST_ROWS = 50_000
"""Most test rows: their error is below that of few seeds, and each is resampled for every score."""


@dataclass(frozen=True, eq=False)
class Arena:
    """A learner with the rows it is trained and tested on, as it sees them."""

    learner: Learner
    synthetic: Split
    train: Split
    test: Split
    weights_WN: NDArray[np.uint8]
    """How often each test row counts; see :func:`scores.resampled`."""

    rows: int
    """Rows of a training: as many real ones as synthetic ones."""

    conditions: dict[str, Condition]

    def train_on(
        self, rows_of: Callable[[np.random.Generator], Split], evaluation: Evaluation, *purpose: str
    ) -> Results:
        """Train once per seed on the rows that a function draws, and return the scores on the test rows."""
        return train_seeds(self.learner, self, rows_of, evaluation, *purpose)

    def draw(self, split: Split, rng: np.random.Generator) -> Split:
        """Return as many rows of a split as a training has.

        They are drawn without replacement, unless a small split has no more than that: then every seed would train on
        the same rows, and the spread over seeds would not show what other rows would have given.
        """
        if self.rows == len(split) <= SMALL:
            return split.take(np.sort(rng.integers(0, len(split), self.rows)))
        return split.take(np.sort(rng.permutation(len(split))[: self.rows]))

    @cached_property
    def test_counts(self) -> NDArray[np.int64]:
        """Test rows of each class, int64 [K]."""
        return np.bincount(as_ids(self.test), minlength=len(self.test.classes or ()))

    def rows_behind(self, score: str) -> int | None:
        """Return how many test rows a share is of, the smallest class's for a mean over classes; None for no share."""
        if self.test.classes is None:
            return None
        if score.startswith("recall."):
            return int(self.test_counts[int(score.removeprefix("recall."))])
        return len(self.test) if score == "accuracy" else int(self.test_counts[self.test_counts > 0].min())

    def measured(self, results: Results, score: str) -> tuple[float, Interval]:
        """Return the value and the interval of a score."""
        return scores.value_and_interval(results[score], within=scores.range_of(score), rows=self.rows_behind(score))

    def reference(self, results: Results, score: str, what: str) -> Reference | None:
        """Return the value and interval of a score as a floor or a ceiling; None if it has none."""
        if score not in results:
            return None
        value, interval = self.measured(results, score)
        return Reference(value=value, interval=interval, what=what)

    def constant(self) -> Results:
        """Return the scores of a model that knows the training rows' target alone: the majority class, or the mean."""
        if self.train.class_ids is not None:
            known = self.train.class_ids[self.train.class_ids >= 0]
            shares = np.bincount(known, minlength=len(self.train.classes or ())) / max(1, len(known))
            return score(np.tile(shares, (len(self.test), 1)), self)
        values = self.train.target_values
        assert values is not None
        return score(np.full(len(self.test), np.nanmean(values)), self)


def train_seeds(
    learner: Learner,
    arena: Arena,
    rows_of: Callable[[np.random.Generator], Split],
    evaluation: Evaluation,
    *purpose: str,
) -> Results:
    """Train once per seed; rows and model depend on the seed's number and the purpose of the rows alone."""
    found = []
    for seed in range(evaluation.budget.seeds):
        rows = rows_of(evaluation.random("usefulness", *purpose, seed))
        model = learner.fit(rows, int(evaluation.random("model", seed).integers(1 << 31)))
        found.append({name: values[0] for name, values in score(model.scores(arena.test), arena).items()})
    return scores.stacked(found)


def score(predicted: NDArray[np.float64], arena: Arena) -> Results:
    """Return the scores of one model, [1, 1 + R] each."""
    test = arena.test
    if test.class_ids is not None:
        found = scores.of_classes(predicted, test.class_ids, arena.weights_WN)
    else:
        values = test.target_values
        assert values is not None
        found = scores.of_numbers(predicted, values, arena.weights_WN)
    return {name: values[None] for name, values in found.items()}


def refusal(evaluation: Evaluation) -> str | None:
    """Return why no model can be trained and tested, or None."""
    train, test = evaluation.train, evaluation.test
    if train.target is None:
        return "there is no field to predict: name it with --target, or give every side labels"
    if why := _unsuited(train):
        return why
    if test is None:
        return "there are no real rows that nothing was trained on: give them with --test"
    known = len(_known_rows(test))
    if known < LEAST_TEST_ROWS:
        return f"{known} rows of --test have a target: at least {LEAST_TEST_ROWS} are needed"
    if train.classes is not None:
        for split in (train, evaluation.synthetic):
            ids = split.class_ids
            if ids is None or not (ids >= 0).any():
                return f"no row of {split.source} has a class"
        if len(np.unique(train.class_ids[train.class_ids >= 0] if train.class_ids is not None else ())) < 2:
            return f"{train.source} has one class: there is nothing to tell apart"
        return None
    for split in (train, evaluation.synthetic):
        values = split.target_values
        if values is None or not np.isfinite(values).any():
            return f"no row of {split.source} has a finite {train.target}"
    return None


def _unsuited(train: Split) -> str | None:
    """Return why no learner takes such rows, or None."""
    if is_table(train):
        return None
    if train.image is None:
        return "models are trained on images, or on tables of numbers and categories, and these rows are neither"
    if train.classes is None:
        return f"{train.target} is a number, and models of images predict classes: name a class with --target"
    return None


def arenas(evaluation: Evaluation) -> list[Arena]:
    """Return the learners for these data with their rows; :func:`refusal` found nothing against them."""
    first = first_arena(evaluation)
    if is_table(evaluation.train):
        return [first]
    from gen_engine.evaluate.learners.probe import Probe, with_features

    synthetic, train, test = (with_features(split, evaluation.features(split)) for split in _sides(evaluation))
    probe = Probe(evaluation.extractor.identity)
    return [first, _arena(probe, evaluation, synthetic, train, test, PROBE_ROWS)]


def first_arena(evaluation: Evaluation) -> Arena:
    """Return the learner that sees the rows themselves: trees for a table, a network for images."""
    if is_table(evaluation.train):
        from gen_engine.evaluate.learners.trees import Trees

        return _arena(Trees(), evaluation, *_sides(evaluation))
    from gen_engine.evaluate.learners.cnn import Cnn, arithmetic

    arena = _arena(Cnn(evaluation.budget.steps), evaluation, *_sides(evaluation))
    arena.conditions["arithmetic"] = arithmetic()
    return arena


def _sides(evaluation: Evaluation) -> tuple[Split, Split, Split]:
    assert evaluation.test is not None
    return evaluation.synthetic, evaluation.train, evaluation.test


def _arena(
    learner: Learner,
    evaluation: Evaluation,
    synthetic: Split,
    train: Split,
    test: Split,
    most: int | None = None,
) -> Arena:
    known_N = evaluation.random("test rows").permutation(_known_rows(test))
    test = test.take(np.sort(known_N[: min(MOST_TEST_ROWS, evaluation.budget.rows)]))
    weights_WN = scores.resampled(len(test), evaluation.budget.resamples, evaluation.random("test resamples"))
    synthetic, train = synthetic.take(_known_rows(synthetic)), train.take(_known_rows(train))
    rows = min(len(synthetic), len(train), evaluation.budget.train_rows, most or evaluation.budget.train_rows)
    conditions: dict[str, Condition] = {
        "model": learner.identity,
        "rows": rows,
        "test rows": len(test),
        "seeds": evaluation.budget.seeds,
    }
    alike = [what for what, split in (("real", train), ("synthetic", synthetic)) if len(split) == rows]
    if alike and rows <= SMALL:
        conditions["drawn with replacement"] = f"{' and '.join(alike)} rows"
    elif alike:
        # Then seeds do not show how much the figures depend on which rows these are.
        conditions["rows that every seed trains on"] = f"all {' and '.join(alike)} ones"
    if train.classes is not None:
        for what, split in (("real", train), ("synthetic", synthetic)):
            counts = np.bincount(as_ids(split), minlength=len(train.classes))
            without = [name for name, count in zip(train.classes, counts, strict=True) if not count]
            if without:
                conditions[f"classes without {what} rows"] = ", ".join(without)
    return Arena(learner, synthetic, train, test, weights_WN, rows, conditions)


def _known_rows(split: Split) -> NDArray[np.intp]:
    """Return the rows whose target is known."""
    if split.class_ids is not None:
        return np.flatnonzero(split.class_ids >= 0)
    values = split.target_values
    return np.arange(len(split)) if values is None else np.flatnonzero(np.isfinite(values))


def better_of(score_name: str) -> Better:
    """Return which way a score is better."""
    return "lower" if score_name == "rmse" else "higher"


def whole_scores(test: Split) -> Sequence[str]:
    """Return the names of the scores of all classes together, also of those that these test rows do not allow."""
    if test.classes is None:
        return scores.REGRESSION
    two = ("average_precision",) if len(test.classes) == 2 else ()
    return ("accuracy", "balanced_accuracy", "auc", *two)


def lacking(score: str) -> str:
    """Return why a score is missing from results."""
    if score in scores.REGRESSION:
        return "the target has the same value in every test row: give --test rows in which it varies"
    return "the test rows are all of one class: give --test rows of several classes"


def as_ids(split: Split) -> NDArray[np.int64]:
    """Return the class ids of a split that has classes."""
    ids: Any = split.class_ids
    return np.asarray(ids, np.int64)
