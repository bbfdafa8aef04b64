"""Usefulness: is a model that was trained on the synthetic rows as good, on real ones, as one trained on real rows?

Train on synthetic, test on real (TSTR), against train on real, test on real (TRTR): the same model, as many rows, the
same test rows, that neither the generator nor a model was trained on. For classification, TSTR accuracy is the
classification accuracy score of S. Ravuri and O. Vinyals, 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from gen_engine.evaluate.figures import Figure, Question, not_computed
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.scalars import is_table
from gen_engine.evaluate.metrics.scores import SHARE, Results, mean_known, range_of, value_and_interval
from gen_engine.evaluate.metrics.trials import (
    Arena,
    arenas,
    as_ids,
    better_of,
    lacking,
    refusal,
    whole_scores,
)
from gen_engine.evaluate.metrics.yardstick import independent
from gen_engine.evaluate.split import Split

MAJORITY = "majority class"
MEAN = "mean of the training rows"
MARGINALS = "trained on independent marginals"
REAL = "trained on as many real rows"

RARE = 0.5
"""A class is rare with less than this share of the rows that it would have among equally frequent ones."""


class Usefulness:
    """TSTR, TRTR, training on both, and what they are of each class."""

    name = "usefulness"
    question: Question = "useful"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the scores of each model, then those of each class, beside the floor and TRTR."""
        if why := refusal(evaluation):
            yield not_computed(self.name, "tstr", self.question, "higher", why)
            return
        for arena in arenas(evaluation):
            yield from self._of_learner(evaluation, arena)

    def _of_learner(self, evaluation: Evaluation, arena: Arena) -> Iterator[Figure]:
        tstr = arena.train_on(lambda rng: arena.draw(arena.synthetic, rng), evaluation, "synthetic")
        trtr = arena.train_on(lambda rng: arena.draw(arena.train, rng), evaluation, "real")
        both = arena.train_on(
            lambda rng: arena.draw(arena.train, rng).joined(arena.draw(arena.synthetic, rng)), evaluation, "both"
        )
        floor, what = _floor(evaluation, arena)
        model = arena.learner.name
        for score in whole_scores(arena.test):
            yield self._figure(f"tstr.{model}.{score}", score, tstr, arena, floor=(floor, what), ceiling=trtr)
            yield self._figure(f"both.{model}.{score}", score, both, arena, floor=(trtr, REAL), ceiling=None)
        yield from self._ratios(model, tstr, trtr, arena)
        if arena.train.classes is not None:
            yield from self._by_class(model, tstr, trtr, arena)

    def _figure(
        self,
        name: str,
        score: str,
        results: Results,
        arena: Arena,
        *,
        floor: tuple[Results, str] | None,
        ceiling: Results | None,
        group: str | None = None,
    ) -> Figure:
        if score not in results:
            return self._lacking(name, score, arena)
        value, interval = arena.measured(results, score)
        return Figure(
            metric=self.name,
            name=name,
            question=self.question,
            better=better_of(score),
            value=value,
            interval=interval,
            floor=None if floor is None else arena.reference(floor[0], score, floor[1]),
            ceiling=None if ceiling is None else arena.reference(ceiling, score, REAL),
            group=group,
            conditions=arena.conditions,
        )

    def _lacking(self, name: str, score: str, arena: Arena) -> Figure:
        return not_computed(
            self.name, name, self.question, better_of(score), lacking(score), conditions=arena.conditions
        )

    def _ratios(self, model: str, tstr: Results, trtr: Results, arena: Arena) -> Iterator[Figure]:
        """Yield TSTR as a share of TRTR, paired by seed and by resamples of the test rows."""
        for score in whole_scores(arena.test):
            name = f"tstr_over_trtr.{model}.{score}"
            if score == "rmse":  # an error of 0 is possible, and no share of it
                continue
            if score not in trtr:
                yield self._lacking(name, score, arena)
                continue
            if np.nanmin(trtr[score]) <= 0:
                why = (
                    f"the model trained on real rows reaches a {score} of {trtr[score][:, 0].mean():.3f}, and it is "
                    "not above 0 with every seed and resample of the test rows: there is nothing to be a share of"
                )
                yield not_computed(self.name, name, self.question, "higher", why, conditions=arena.conditions)
                continue
            # Scores are 0 at least, and so is their ratio; R² may be less.
            low = 0.0 if range_of(score) == SHARE else -np.inf
            value, interval = value_and_interval(
                tstr[score] / trtr[score], within=(low, np.inf), rows=arena.rows_behind(score), ends=(1.0,)
            )
            yield Figure(
                metric=self.name,
                name=name,
                question=self.question,
                better="higher",
                value=value,
                interval=interval,
                conditions=arena.conditions,
            )

    def _by_class(self, model: str, tstr: Results, trtr: Results, arena: Arena) -> Iterator[Figure]:
        """Yield each class's recall, and the mean recall of the rare ones."""
        names = arena.train.classes or ()
        shares = np.bincount(as_ids(arena.train), minlength=len(names)) / len(arena.train)
        for class_id, group in enumerate(names):
            score, name = f"recall.{class_id}", f"tstr.{model}.recall"
            if score not in tstr:
                why = "no test row is of this class"
                yield not_computed(
                    self.name, name, self.question, "higher", why, group=group, conditions=arena.conditions
                )
                continue
            yield self._figure(name, score, tstr, arena, floor=None, ceiling=trtr, group=group)
        rare = np.flatnonzero(shares < RARE / np.count_nonzero(shares)).tolist()
        yield self._rare(model, rare, tstr, trtr, arena)

    def _rare(self, model: str, rare: list[int], tstr: Results, trtr: Results, arena: Arena) -> Figure:
        """Return the mean recall of the rare classes that have test rows."""
        name, names = f"rare.{model}.balanced_accuracy", arena.train.classes or ()
        tested = [one for one in rare if f"recall.{one}" in tstr]
        if not tested:
            why = f"no class has less than {RARE:g} of the rows that it would have among equally frequent ones"
            if rare:
                why = f"no test row is of a rare class: {', '.join(names[one] for one in rare)}"
            return not_computed(self.name, name, self.question, "higher", why, conditions=arena.conditions)
        score = "balanced_accuracy"
        found, best = ({score: mean_known([one[f"recall.{place}"] for place in tested])} for one in (tstr, trtr))
        figure = self._figure(name, score, found, arena, floor=None, ceiling=best)
        listed = ", ".join(names[one] for one in tested)
        return replace(figure, conditions={**arena.conditions, "rare classes": listed})


def _floor(evaluation: Evaluation, arena: Arena) -> tuple[Results, str]:
    """Return what knows nothing of a row: the majority class or the mean; of tables, a model of shuffled columns."""
    if not is_table(evaluation.train):
        return arena.constant(), MAJORITY

    def shuffled(rng: np.random.Generator) -> Split:
        rows = arena.draw(arena.train, rng)
        return independent(rows, np.arange(len(rows)), rng)

    constant = arena.constant()
    what = MAJORITY if arena.train.classes is not None else MEAN
    for score in [one for one in whole_scores(arena.test) if one in constant]:
        arena.conditions[f"{score} of the {what}"] = float(constant[score][0, 0])
    return arena.train_on(shuffled, evaluation, "marginals"), MARGINALS
