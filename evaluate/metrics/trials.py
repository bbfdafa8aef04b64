"""Training models on some rows and scoring them on the test rows: what metrics of usefulness share.

Shape suffixes: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.figures import Better, Condition, Reference
from gen_engine.evaluate.learners.contract import Learner
from gen_engine.evaluate.metrics import scores
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.scalars import is_table
from gen_engine.evaluate.metrics.scores import Results
from gen_engine.evaluate.split import Split

PROBE_ROWS = 20_000
"""Most rows of a probe's training: its accuracy no longer grows, and its time does."""

LEAST_TEST_ROWS = 20

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
        """Return as many rows of a split as a training has, without replacement."""
        return split.take(np.sort(rng.permutation(len(split))[: self.rows]))

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


def arenas(evaluation: Evaluation) -> list[Arena]:
    """Return the learners for these data with their rows; there is a target and a test split."""
    assert evaluation.test is not None
    known_N = evaluation.random("test rows").permutation(_known_rows(evaluation.test))
    test = evaluation.test.take(np.sort(known_N[: min(MOST_TEST_ROWS, evaluation.budget.rows)]))
    weights = scores.resampled(len(test), evaluation.budget.resamples, evaluation.random("test resamples"))
    if is_table(evaluation.train):
        from gen_engine.evaluate.learners.trees import Trees

        return [_arena(Trees(), evaluation, evaluation.synthetic, evaluation.train, test, weights)]
    from gen_engine.evaluate.learners.cnn import Cnn
    from gen_engine.evaluate.learners.probe import Probe, with_features

    cnn = _arena(Cnn(evaluation.budget.steps), evaluation, evaluation.synthetic, evaluation.train, test, weights)
    synthetic, train = (
        with_features(split, evaluation.features(split)) for split in (evaluation.synthetic, evaluation.train)
    )
    test = with_features(test, evaluation.extractor.features(test))
    probe = Probe(evaluation.extractor.identity)
    return [cnn, _arena(probe, evaluation, synthetic, train, test, weights, PROBE_ROWS)]


def _arena(
    learner: Learner,
    evaluation: Evaluation,
    synthetic: Split,
    train: Split,
    test: Split,
    weights_WN: NDArray[np.uint8],
    most: int | None = None,
) -> Arena:
    synthetic, train = synthetic.take(_known_rows(synthetic)), train.take(_known_rows(train))
    rows = min(len(synthetic), len(train), evaluation.budget.train_rows, most or evaluation.budget.train_rows)
    conditions: dict[str, Condition] = {
        "model": learner.identity,
        "rows": rows,
        "test rows": len(test),
        "seeds": evaluation.budget.seeds,
    }
    if train.classes is not None and train.class_ids is not None and synthetic.class_ids is not None:
        lacking = set(np.unique(train.class_ids).tolist()) - set(np.unique(synthetic.class_ids).tolist())
        if lacking:
            conditions["classes without synthetic rows"] = ", ".join(train.classes[one] for one in sorted(lacking))
    return Arena(learner, synthetic, train, test, weights_WN, rows, conditions)


def _known_rows(split: Split) -> NDArray[np.intp]:
    """Return the rows whose target is known."""
    if split.class_ids is not None:
        return np.flatnonzero(split.class_ids >= 0)
    values = split.target_values
    return np.arange(len(split)) if values is None else np.flatnonzero(np.isfinite(values))


def reference(results: Results, name: str, what: str) -> Reference | None:
    """Return the value and interval of a score as a floor or a ceiling; None if it has none."""
    if name not in results:
        return None
    value, interval = scores.value_and_interval(results[name])
    return Reference(value=value, interval=interval, what=what)


def better_of(score_name: str) -> Better:
    """Return which way a score is better."""
    return "lower" if score_name == "rmse" else "higher"


def whole_scores(results: Results) -> Sequence[str]:
    """Return the names of the scores of all classes together."""
    return [name for name in results if not name.startswith("recall.")]


def as_ids(split: Split) -> NDArray[np.int64]:
    """Return the class ids of a split that has classes."""
    ids: Any = split.class_ids
    return np.asarray(ids, np.int64)
