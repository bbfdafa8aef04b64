"""Membership attacks: can somebody who has the synthetic rows tell who was in the training data?

Attacks score candidates, half of them training rows and half held-out ones; an attack that cannot tell them apart has
an area under its ROC curve of 0.5. See :data:`THREAT_MODEL`, and :mod:`gen_engine.evaluate.metrics.attacks`.

Shape suffixes: N candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gen_engine.evaluate.figures import Condition, Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.metrics import holdout, intervals
from gen_engine.evaluate.metrics.attacks import ATTACKS, Candidates, Population, Scores, run_attacks
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.distances import nearest, prepare
from gen_engine.evaluate.metrics.holdout import Ids, Space
from gen_engine.evaluate.metrics.usefulness import RARE

THREAT_MODEL: Final = (
    "An attacker has all of the synthetic rows, other real rows of the same population, and a candidate row of which "
    "they want to know whether it was in the training data. They do not have the generator, its weights or its "
    "training code, and cannot ask it for more. Attacks are measured on training rows and on as many real rows that "
    "the generator never saw. Only rows that occur once in the real data are attacked: whether one of several equal "
    "rows was in the training data cannot be told from their contents. Not covered: rows that are repeated in the "
    "training data, attacks on the generator itself, attackers who know most of the training rows, and links to other "
    "data. A low figure says that these attacks failed here, not that every attack must."
)

MOST_CANDIDATES: Final = 5_000
"""Most candidates of each half, and most reference rows."""

MOST_SYNTHETIC: Final = 100_000
"""Most synthetic rows that the attacker searches."""

LEAST: Final = 100
"""Fewest candidates of each half."""

_OUTLIERS: Final = 0.1
_CHANCE: Final = {"auc": 0.5, "tpr_at_fpr_1": 0.01, "tpr_at_fpr_10": 0.1}
_LEAST_AT: Final = {"auc": 50, "tpr_at_fpr_1": 300, "tpr_at_fpr_10": 50}
"""Fewest candidates of each kind: a false-positive rate of 1 % of fewer is decided by two or three of them."""

_RESAMPLES: Final = 2_000


@dataclass(frozen=True, eq=False)
class Drawn:
    """Which rows are attacked, and which the attacker has: disjoint, candidates in random order."""

    members_N: Ids
    """Rows of the training split."""

    others_N: Ids
    """As many rows of the test split."""

    reference_N: Ids
    """Other rows of the test split."""

    synthetic_N: Ids

    def rows(self, evaluation: Evaluation, space: Space) -> Population:
        """Return these rows in a space."""
        assert evaluation.test is not None
        return Population(
            space.rows(evaluation.train, self.members_N),
            space.rows(evaluation.test, self.others_N),
            space.rows(evaluation.test, self.reference_N),
            space.rows(evaluation.synthetic, self.synthetic_N),
        )


class Membership:
    """Attacks on all candidates, on outliers and on rare classes."""

    name = "membership"
    question: Question = "private"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield each attack's figures in each space, then those of the attack that does best."""
        why = holdout.refusal(evaluation, 2 * LEAST)
        drawn = None if why else _draw(evaluation)
        if drawn is not None and len(drawn.members_N) < LEAST:
            count = len(drawn.members_N)
            why = f"only {count} training rows, and as many held-out ones beside reference rows, occur once in the "
            why += f"real data: at least {LEAST} of each are needed"
        if drawn is None or why is not None:
            yield not_computed(self.name, "membership.worst.auc", self.question, "lower", why or "")
            return
        groups = _groups(evaluation, drawn)
        everything: dict[str, Candidates] = {}
        for space in holdout.spaces(evaluation):
            if space.why_not is not None:
                for attack in ATTACKS:
                    name = f"membership.{attack}{space.suffix}.auc"
                    yield not_computed(self.name, name, self.question, "lower", space.why_not)
                continue
            conditions = _conditions(drawn, space)
            found = run_attacks(drawn.rows(evaluation, space), evaluation.random("attacks", space.suffix))
            for attack, scores in found.items():
                everything[attack + space.suffix] = scores
                for group, (members_N, others_N) in groups.items():
                    chosen = scores.take(members_N, others_N)
                    yield from self._of_attack(attack + space.suffix, chosen, group, conditions)
        yield self._worst(everything, _conditions(drawn, None))

    def _of_attack(
        self, attack: str, scores: Candidates, group: str | None, conditions: Mapping[str, Condition]
    ) -> Iterator[Figure]:
        members, others = len(scores.members_N), len(scores.others_N)
        conditions = {**conditions, "training rows": members, "held-out rows": others}
        for kind, least in _LEAST_AT.items():
            name = f"membership.{attack}.{kind}"
            if min(members, others) < least:
                why = f"{members} training and {others} held-out candidates: at least {least} of each are needed"
                yield not_computed(self.name, name, self.question, "lower", why, group=group, conditions=conditions)
                continue
            if kind == "auc":
                value, interval = intervals.of_auc(scores.members_N, scores.others_N)
            else:
                value, interval = true_positives(scores, _CHANCE[kind])
            yield self._figure(name, value, interval, _CHANCE[kind], group, conditions)

    def _worst(self, attacks: Mapping[str, Candidates], conditions: Mapping[str, Condition]) -> Figure:
        """Return the figure of the best attack, chosen on one half of the candidates and measured on the other."""

        def area(name: str) -> float:
            half = attacks[name].half(0)
            return intervals.auc(half.members_N, half.others_N)[0]

        best = max(attacks, key=area)
        held = attacks[best].half(1)
        value, interval = intervals.of_auc(held.members_N, held.others_N)
        conditions = {
            **conditions,
            "attack": best,
            "attacks": len(attacks),
            "training rows": len(held.members_N),
            "held-out rows": len(held.others_N),
        }
        return self._figure("membership.worst.auc", value, interval, _CHANCE["auc"], None, conditions)

    def _figure(
        self,
        name: str,
        value: float,
        interval: Interval,
        chance: float,
        group: str | None,
        conditions: Mapping[str, Condition],
    ) -> Figure:
        exact = Interval(low=chance, high=chance, method="exact")
        return Figure(
            metric=self.name,
            name=name,
            question=self.question,
            better="lower",
            value=value,
            interval=interval,
            floor=Reference(value=1.0, interval=None, what="every training row found"),
            ceiling=Reference(value=chance, interval=exact, what="chance"),
            group=group,
            conditions=conditions,
        )


def _conditions(drawn: Drawn, space: Space | None) -> dict[str, Condition]:
    found: dict[str, Condition] = {
        "reference rows": len(drawn.reference_N),
        "synthetic rows": len(drawn.synthetic_N),
    }
    return found if space is None else found | {"distances of": space.name}


def _draw(evaluation: Evaluation) -> Drawn:
    """Draw candidates of rows that occur once in the real data, and reference rows of the other test rows.

    Half of the test rows that occur once are left to the reference.
    """
    assert evaluation.test is not None
    train_N, test_N = holdout.single_rows(evaluation)
    count = min(len(train_N), len(test_N) // 2, MOST_CANDIDATES)
    rng = evaluation.random("candidates")
    others_N = rng.permutation(test_N)[:count]
    rest_N = np.setdiff1d(np.arange(len(evaluation.test)), others_N)
    return Drawn(
        members_N=rng.permutation(train_N)[:count],
        others_N=others_N,
        reference_N=rng.permutation(rest_N)[:MOST_CANDIDATES],
        synthetic_N=holdout.synthetic_rows(evaluation, MOST_SYNTHETIC),
    )


def true_positives(scores: Candidates, rate: float) -> tuple[float, Interval]:
    """Return the share of members that score above all but ``rate`` of the others, and its interval.

    The threshold is estimated from as few rows as the rate leaves, so both kinds of candidates are resampled: the
    threshold's place in a resample is an order statistic of uniform places, which is beta distributed, and the members
    above it are binomial. At the ends of the scale no resample differs, so the interval also holds the exact one for
    a given threshold.
    """
    members, others = np.sort(scores.members_N), np.sort(scores.others_N)
    count = len(others)
    place = count - 1 - int(rate * count)

    def shares(places: NDArray[np.intp]) -> Scores:
        return np.asarray(1 - np.searchsorted(members, others[places], side="right") / len(members), np.float64)

    value = float(shares(np.array([place]))[0])
    rng = np.random.default_rng([len(members), count])
    places = (count * rng.beta(place + 1, count - place, _RESAMPLES)).astype(np.intp)
    found = rng.binomial(len(members), shares(np.minimum(places, count - 1))) / len(members)
    low, high = np.quantile(found, stats.norm.cdf([-1.96, 1.96]))
    exact = intervals.of_rare(round(value * len(members)), len(members))
    return value, Interval(
        low=min(float(low), exact.low),
        high=max(float(high), exact.high),
        method=f"bootstrap over both kinds of candidates, {_RESAMPLES:,} resamples, and Clopper-Pearson",
    )


def _groups(evaluation: Evaluation, drawn: Drawn) -> dict[str | None, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return which members and which others are of each group: all, outliers, and rare classes."""
    train, test = evaluation.train, evaluation.test
    assert test is not None
    members, others, reference = prepare(
        holdout.space(evaluation, train, drawn.members_N),
        holdout.space(evaluation, test, drawn.others_N),
        holdout.space(evaluation, test, drawn.reference_N),
    )
    member_far, other_far = (nearest(one, reference, min(5, len(reference)))[0][:, -1] for one in (members, others))
    # Decided without the synthetic rows, and by one threshold for both kinds.
    limit = float(np.quantile(np.concatenate([member_far, other_far]), 1 - _OUTLIERS))
    groups: dict[str | None, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {
        None: (np.ones(len(members), bool), np.ones(len(others), bool)),
        "outliers": (member_far > limit, other_far > limit),
    }
    if train.classes is None or train.class_ids is None or test.class_ids is None:
        return groups
    counts = np.bincount(train.class_ids[train.class_ids >= 0], minlength=len(train.classes))
    for class_id in np.flatnonzero((counts > 0) & (counts < RARE * counts.sum() / np.count_nonzero(counts))).tolist():
        groups[train.classes[class_id]] = (
            train.class_ids[drawn.members_N] == class_id,
            test.class_ids[drawn.others_N] == class_id,
        )
    return groups
