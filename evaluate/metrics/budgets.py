"""Small real budgets: do synthetic rows help where there are few real ones, more than standard augmentation does?

At each budget models are trained for equally many steps on the real rows alone, on them with standard augmentation,
and on them with synthetic rows, half of every batch on average each. Gains are differences of scores, paired by seed
and by test rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from gen_engine.evaluate.figures import Figure, Question, Reference, not_computed
from gen_engine.evaluate.learners.contract import Learner
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.scalars import is_table
from gen_engine.evaluate.metrics.scores import SHARE, Results, range_of, value_and_interval
from gen_engine.evaluate.metrics.trials import (
    Arena,
    as_ids,
    better_of,
    first_arena,
    lacking,
    refusal,
    train_seeds,
)
from gen_engine.evaluate.split import Split

BUDGETS: Final = (10, 50, 100, 500)
"""Real rows per class; for a regression, a tenth of the real rows."""

GAINS: Final = ("gain", "gain_over_augmentation", "gain_beside_augmentation")
"""Names of the figures of a budget; a table has the first alone."""

_SYNTHETIC_ROWS: Final = 20_000


class Budgets:
    """Gains by synthetic rows at small budgets of real ones."""

    name = "budgets"
    question: Question = "useful"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the gain over real rows alone, and over augmented ones, at each budget."""
        if why := refusal(evaluation):
            yield not_computed(self.name, "gain", self.question, "higher", why)
            return
        arena = first_arena(evaluation)
        score = "accuracy" if arena.train.classes is not None else "r2"
        for budget in BUDGETS:
            why = _too_few(arena.train, budget) or (lacking(score) if score not in arena.constant() else None)
            if why is not None:
                for gain in GAINS[: 1 if is_table(arena.train) else None]:
                    name = f"{gain}.{arena.learner.name}.{budget}.{score}"
                    yield not_computed(self.name, name, self.question, "higher", why, conditions=arena.conditions)
                continue
            yield from self._at(evaluation, arena, budget, score)

    def _at(self, evaluation: Evaluation, arena: Arena, budget: int, score: str) -> Iterator[Figure]:
        plain, augmented = _learners(evaluation, arena)

        def real(rng: np.random.Generator) -> Split:
            return _subset(arena.train, budget, rng)

        def mixed(rng: np.random.Generator) -> Split:
            return _mixed(real(rng), arena.synthetic, rng)

        def run(learner: Learner, mix: bool) -> Results:
            # The purpose is the budget alone: all variants draw the same real rows with the same seed.
            return train_seeds(learner, arena, mixed if mix else real, evaluation, f"budget {budget}")

        alone, with_synthetic = run(plain, False), run(plain, True)
        model = arena.learner.name
        yield self._gain(
            f"{GAINS[0]}.{model}.{budget}.{score}", score, with_synthetic, alone, "real rows alone", arena, plain
        )
        if augmented is None:
            return
        with_augmentation = run(augmented, False)
        what = "real rows with augmentation"
        name = f"{GAINS[1]}.{model}.{budget}.{score}"
        yield self._gain(name, score, with_synthetic, with_augmentation, what, arena, plain)
        name = f"{GAINS[2]}.{model}.{budget}.{score}"
        yield self._gain(name, score, run(augmented, True), with_augmentation, what, arena, augmented)

    def _gain(
        self, name: str, score: str, found: Results, base: Results, what: str, arena: Arena, learner: Learner
    ) -> Figure:
        # Shares differ by 1 at most.
        within = (-1.0, 1.0) if range_of(score) == SHARE else (-np.inf, np.inf)
        difference = found[score] - base[score]
        value, interval = value_and_interval(difference, within=within, rows=arena.rows_behind(score), ends=(0.0,))
        base_value, _ = arena.measured(base, score)
        conditions = arena.conditions | {
            "model": learner.identity,
            "rows": len(_subset(arena.train, int(name.split(".")[2]), np.random.default_rng(0))),
            f"{score} of {what}": base_value,
        }
        return Figure(
            metric=self.name,
            name=name,
            question=self.question,
            better=better_of(score),
            value=value,
            interval=interval,
            floor=Reference(value=0.0, interval=None, what=what),
            conditions=conditions,
        )


def _learners(evaluation: Evaluation, arena: Arena) -> tuple[Learner, Learner | None]:
    """Return the learner of small budgets, and the same with standard augmentation where there is one."""
    if is_table(evaluation.train):
        return arena.learner, None
    from gen_engine.evaluate.learners.cnn import Cnn

    steps = evaluation.budget.small_steps
    return Cnn(steps), Cnn(steps, "shift")


def _too_few(train: Split, budget: int) -> str | None:
    if train.classes is None:
        return (
            None if len(train) >= 10 * budget else f"{10 * budget:,} real rows are needed, and there are {len(train):,}"
        )
    counts = np.bincount(as_ids(train), minlength=len(train.classes))
    fewest = int(np.argmin(np.where(counts > 0, counts, counts.max())))
    if counts[fewest] >= budget:
        return None
    return f"{budget} real rows per class are needed, and {train.classes[fewest]} has {counts[fewest]}"


def _subset(train: Split, budget: int, rng: np.random.Generator) -> Split:
    """Return the real rows of a budget, as many of each class that has rows."""
    if train.classes is None:
        return train.take(np.sort(rng.permutation(len(train))[: 10 * budget]))
    ids = as_ids(train)
    chosen = [rng.permutation(np.flatnonzero(ids == one))[:budget] for one in np.unique(ids).tolist()]
    return train.take(np.sort(np.concatenate(chosen)))


def _mixed(real: Split, synthetic: Split, rng: np.random.Generator) -> Split:
    """Return synthetic rows and as many real ones, repeated."""
    count = max(len(real), min(len(synthetic), _SYNTHETIC_ROWS))
    drawn = synthetic.take(np.sort(rng.permutation(len(synthetic))[:count]))
    return real.take(np.resize(np.arange(len(real)), count)).joined(drawn)
