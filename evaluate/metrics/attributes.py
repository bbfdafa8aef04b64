"""Attribute inference: who knows the other columns of a training row, can they learn a column from synthetic rows?

One column is guessed from the others, of training rows and of held-out rows, by what only synthetic rows taught: with
the value of the nearest synthetic row, which finds rows that were remembered, and by a model. A number is right within
a tenth of the training rows' standard deviation. What is right of both sides is knowledge about the population; the
risk is what is right beyond that: (s − c) / (1 − c), with s and c the shares right of training and held-out rows
(M. Giomi et al., *A unified framework for quantifying privacy risk in synthetic data*, 2023).

Shape suffixes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gen_engine.engine.sample.schema import Field, Schema
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.features.columns import open_columns
from gen_engine.evaluate.figures import LEVEL, Condition, Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.learners.trees import Trees
from gen_engine.evaluate.metrics import holdout
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.distances import nearest, prepare
from gen_engine.evaluate.metrics.scalars import categories, is_category, is_table, numbers, scalar_fields
from gen_engine.evaluate.split import Split

LEAST: Final = 100
_MOST_COLUMNS: Final = 6
_MOST_CATEGORIES: Final = 50
_MOST_ROWS: Final = 20_000
_ROUNDS: Final = 50
_NEAR: Final = 0.1
"""Standard deviations within which the guess of a number is right."""


class Attributes:
    """The risk of the target and of a few columns with categories."""

    name = "attributes"
    question: Question = "private"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the highest risk first."""
        why = "the rows are images, which have no columns" if not is_table(evaluation.train) else None
        why = why or holdout.refusal(evaluation, LEAST)
        fields = [] if why else self._secrets(evaluation.train)
        if why is None and not fields:
            why = f"no column has 2 to {_MOST_CATEGORIES} categories, and there is no target that is a number"
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
        """Return the columns that are attacked: the target, and those with the most categories."""
        usable = []
        for one in scalar_fields(train):
            if not is_category(one):
                if one.name == train.target and _spread(train, one.name) > 0:
                    usable.append((False, 0, one))
                continue
            ids = categories(train, one.name)
            distinct = len(np.unique(ids[ids >= 0]))
            if 2 <= distinct <= _MOST_CATEGORIES:
                usable.append((one.name != train.target, -distinct, one))
        return [one for *_, one in sorted(usable, key=lambda item: item[:2])][:_MOST_COLUMNS]

    def _risk(self, field: Field, synthetic: Split, train: Split, test: Split, evaluation: Evaluation) -> Figure:
        views = [replace(split, target=field.name) for split in (synthetic, train, test)]
        known = [view.take(np.flatnonzero(_has_value(view, field))) for view in views]
        if min(len(view) for view in known) < LEAST:
            why = f"fewer than {LEAST} rows of a side have a value"
            return not_computed(self.name, "attributes.risk", self.question, "lower", why, group=field.name)
        spread = _spread(evaluation.train, field.name)
        right = {
            name: [_right(one, view, field, spread) for one, view in zip(guesses, known[1:], strict=True)]
            for name, guesses in (
                ("nearest synthetic row", _by_nearest(known, field)),
                ("trees", _by_trees(known, field, int(evaluation.random("attributes", field.name).integers(1 << 31)))),
            )
        }
        # The better attack is chosen on one half of the rows and measured on the other. They are in random order.
        best = max(right, key=lambda name: _excess(*(float(one[::2].mean()) for one in right[name])))
        members_N, others_N = (one[1::2] for one in right[best])
        success, control = float(members_N.mean()), float(others_N.mean())
        if control == 1:
            why = "every held-out row is guessed right, so nothing is left to learn"
            return not_computed(self.name, "attributes.risk", self.question, "lower", why, group=field.name)
        conditions: dict[str, Condition] = {
            "attack": best,
            "training rows right": success,
            "held-out rows right": control,
            "rows": len(members_N),
        }
        return Figure(
            metric=self.name,
            name="attributes.risk",
            question=self.question,
            better="lower",
            value=_excess(success, control),
            interval=_interval(success, control, len(members_N), len(others_N)),
            floor=Reference(value=1.0, interval=None, what="always right of training rows"),
            ceiling=Reference(
                value=0.0, interval=Interval(low=0.0, high=0.0, method="exact"), what="no more than others"
            ),
            group=field.name,
            conditions=conditions,
        )


def _spread(split: Split, name: str) -> float:
    """Return a column's standard deviation, without values that are missing or infinite; 0 if none is left."""
    values_N = numbers(split, name)
    finite_N = values_N[np.isfinite(values_N)]
    return float(finite_N.std()) if len(finite_N) else 0.0


def _has_value(split: Split, field: Field) -> NDArray[np.bool_]:
    if is_category(field):
        return categories(split, field.name) >= 0
    return np.isfinite(numbers(split, field.name))


def _by_nearest(known: list[Split], field: Field) -> list[NDArray[np.float64]]:
    """Return the value of the nearest synthetic row, [N], of training rows and of held-out ones.

    Columns are scaled by the synthetic rows, which are what the attacker has.
    """
    seen = [replace(view, schema=_without(view.schema, field), target=None) for view in known]
    scaled = open_columns(None, Sides(synthetic=seen[0], train=seen[0], test=None), 0)
    synthetic, *asked = prepare(*(scaled.features(view) for view in seen))
    values_N = numbers(known[0], field.name)
    return [values_N[nearest(one, synthetic, 1)[1][:, 0]] for one in asked]


def _by_trees(known: list[Split], field: Field, seed: int) -> list[NDArray[np.float64]]:
    """Return what a model guesses, [N], of training rows and of held-out ones."""
    model = Trees(_ROUNDS).fit(known[0], seed)
    scores = [model.scores(view) for view in known[1:]]
    return [one.argmax(1).astype(np.float64) for one in scores] if is_category(field) else scores


def _without(schema: Schema, field: Field) -> Schema:
    return Schema(tuple(one for one in schema if one.name != field.name))


def _right(guesses_N: NDArray[np.float64], split: Split, field: Field, spread: float) -> NDArray[np.bool_]:
    """Return which rows are guessed right, [N]."""
    allowed = 0.0 if is_category(field) else _NEAR * spread
    return np.asarray(np.abs(guesses_N - numbers(split, field.name)) <= allowed)


def _excess(success: float, control: float) -> float:
    """Return the risk; 0 where everything is right of held-out rows."""
    return (success - control) / (1 - control) if control < 1 else 0.0


def _interval(success: float, control: float, members: int, others: int) -> Interval:
    """Return the interval of the risk by the delta method.

    The derivatives are 1 / (1 - c) by s and (s - 1) / (1 - c)² by c. A share of 0 or 1 has no variance by itself, so
    two rows are added to each, one of them right (A. Agresti and B. Coull, The American Statistician 52, 1998).
    """
    s, c = ((share * rows + 1) / (rows + 2) for share, rows in ((success, members), (control, others)))
    variance = s * (1 - s) / members / (1 - c) ** 2 + c * (1 - c) / others * (1 - s) ** 2 / (1 - c) ** 4
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * float(np.sqrt(variance))
    value = _excess(success, control)
    return Interval(low=value - half, high=value + half, method="delta method")
