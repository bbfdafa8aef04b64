"""Attribute inference: who knows the other columns of a training row, can they learn a column from synthetic rows?

A model that was trained on the synthetic rows predicts one column from the others, of training rows and of held-out
rows. What it gets right of both is knowledge about the population; the risk is what it gets right beyond that:
(s − c) / (1 − c), with s and c the shares right of training and held-out rows (M. Giomi et al., *A unified framework
for quantifying privacy risk in synthetic data*, 2023).

Shape suffixes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from scipy import stats

from gen_engine.engine.sample.schema import Field
from gen_engine.evaluate.figures import LEVEL, Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.learners.trees import Trees
from gen_engine.evaluate.metrics import holdout
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.scalars import categories, is_category, is_table, scalar_fields
from gen_engine.evaluate.split import Split

LEAST: Final = 100
_MOST_COLUMNS: Final = 6
_MOST_CATEGORIES: Final = 50
_MOST_ROWS: Final = 20_000
_ROUNDS: Final = 50


class Attributes:
    """The risk of each of a few columns with categories."""

    name = "attributes"
    question: Question = "private"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the highest risk first."""
        why = "the rows are images, which have no columns" if not is_table(evaluation.train) else None
        why = why or holdout.refusal(evaluation, LEAST)
        fields = [] if why else self._secrets(evaluation.train)
        if why is None and not fields:
            why = f"no column has 2 to {_MOST_CATEGORIES} categories"
        if why is None and len(scalar_fields(evaluation.train)) < 2:
            why = "there is only one column"
        drawn = None if why else holdout.equal_rows(evaluation, _MOST_ROWS)
        if drawn is not None and drawn.rows < LEAST:
            why = f"{drawn.rows} rows of each side occur once in the real data: at least {LEAST} are needed"
        if drawn is None or why is not None or evaluation.test is None:
            yield not_computed(self.name, "attributes.risk", self.question, "lower", why or "")
            return
        rows_N = holdout.synthetic_rows(evaluation, _MOST_ROWS)
        sides = (
            evaluation.synthetic.take(rows_N),
            evaluation.train.take(drawn.train_N),
            evaluation.test.take(drawn.test_N),
        )
        found = [self._risk(field, *sides, evaluation) for field in fields]
        yield from sorted(found, key=lambda one: -(one.value if one.value is not None else -np.inf))

    def _secrets(self, train: Split) -> list[Field]:
        """Return the columns that are attacked: the target, if it has categories, and those with the most of them."""
        fields = [one for one in scalar_fields(train) if is_category(one)]
        usable = []
        for one in fields:
            ids = categories(train, one.name)
            distinct = len(np.unique(ids[ids >= 0]))
            if 2 <= distinct <= _MOST_CATEGORIES:
                usable.append((one.name != train.target, -distinct, one))
        return [one for *_, one in sorted(usable, key=lambda item: item[:2])][:_MOST_COLUMNS]

    def _risk(self, field: Field, synthetic: Split, train: Split, test: Split, evaluation: Evaluation) -> Figure:
        views = [replace(split, target=field.name) for split in (synthetic, train, test)]
        known = [view.take(np.flatnonzero(categories(view, field.name) >= 0)) for view in views]
        if min(len(view) for view in known) < LEAST:
            why = f"fewer than {LEAST} rows of a side have a value"
            return not_computed(self.name, "attributes.risk", self.question, "lower", why, group=field.name)
        model = Trees(_ROUNDS).fit(known[0], int(evaluation.random("attributes", field.name).integers(1 << 31)))
        shares, sizes = [], []
        for view in known[1:]:
            right = model.scores(view).argmax(1) == categories(view, field.name)
            shares.append(float(right.mean()))
            sizes.append(len(right))
        (success, control), (count, others) = shares, sizes
        if control == 1:
            why = "every held-out row is guessed right, so nothing is left to learn"
            return not_computed(self.name, "attributes.risk", self.question, "lower", why, group=field.name)
        value = (success - control) / (1 - control)
        # The delta method: the derivatives are 1 / (1 - c) by s and (s - 1) / (1 - c)² by c.
        variance = success * (1 - success) / count / (1 - control) ** 2
        variance += control * (1 - control) / others * (1 - success) ** 2 / (1 - control) ** 4
        half = float(stats.norm.ppf((1 + LEVEL) / 2)) * float(np.sqrt(max(variance, 1 / count**2)))
        return Figure(
            metric=self.name,
            name="attributes.risk",
            question=self.question,
            better="lower",
            value=value,
            interval=Interval(low=value - half, high=value + half, method="delta method"),
            floor=Reference(value=1.0, interval=None, what="always right of training rows"),
            ceiling=Reference(
                value=0.0, interval=Interval(low=0.0, high=0.0, method="exact"), what="no more than others"
            ),
            group=field.name,
            conditions={"training rows right": success, "held-out rows right": control, "rows": count},
        )
