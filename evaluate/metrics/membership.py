"""Membership attacks: can somebody who has the synthetic rows tell who was in the training data?

Attacks score candidates, half of them training rows and half held-out ones; an attack that cannot tell them apart has
an area under its ROC curve of 0.5. See :data:`THREAT_MODEL`.

- ``distance``: nearness to a synthetic row (D. Chen et al., *GAN-Leaks*, 2020);
- ``calibrated``: the same, in proportion to the distance from the nearest reference row (ibid.);
- ``neighbours``: number of synthetic rows within a radius (B. Hilprecht et al., *Monte Carlo and reconstruction
  membership inference attacks against generative models*, 2019);
- ``density-ratio``: density of synthetic rows over that of reference rows (B. van Breugel et al., *Membership inference
  attacks against synthetic data through overfitting detection* (DOMIAS), 2023);
- ``classifier``: how sure a model is that a candidate is synthetic and not a reference row.

Shape suffixes: N candidates, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.figures import Condition, Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.metrics import holdout, intervals
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.distances import nearest, prepare
from gen_engine.evaluate.metrics.holdout import Features, Ids
from gen_engine.evaluate.metrics.two_sample import Trees
from gen_engine.evaluate.metrics.usefulness import RARE

THREAT_MODEL: Final = (
    "An attacker has all of the synthetic rows, other real rows of the same population, and a candidate row of which "
    "they want to know whether it was in the training data. They do not have the generator, its weights or its "
    "training code, and cannot ask it for more. Attacks are measured on training rows and on as many real rows that "
    "the generator never saw. Not covered: attacks on the generator itself, attackers who know most of the training "
    "rows, and links to other data. A low figure says that these attacks failed here, not that every attack must."
)

MOST_CANDIDATES: Final = 5_000
"""Most candidates of each half, and most reference rows."""

LEAST: Final = 100
_NEIGHBOURS: Final = 20
_DENSITY_WIDTH: Final = 8
"""Components in which densities are estimated: in more, a kernel estimate of a few thousand rows is empty."""

_OUTLIERS: Final = 0.1
_RATES: Final = {"tpr_at_fpr_1": 0.01, "tpr_at_fpr_10": 0.1}
_LEAST_AT: Final = {"tpr_at_fpr_1": 300, "tpr_at_fpr_10": 50}
"""Fewest held-out candidates: a false-positive rate of 1 % of fewer is decided by two or three of them."""

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scores of an attack, higher for likelier members: of training rows, and of held-out ones."""

    members_N: Scores
    others_N: Scores

    def take(self, members_N: NDArray[np.bool_], others_N: NDArray[np.bool_]) -> Candidates:
        """Return some of the candidates."""
        return Candidates(self.members_N[members_N], self.others_N[others_N])


@dataclass(frozen=True, eq=False)
class Population:
    """The rows of an attack."""

    members_N: Ids
    others_N: Ids
    reference_N: Ids
    members_ND: Features
    others_ND: Features
    reference_ND: Features
    synthetic_ND: Features


class Membership:
    """Attacks on all candidates, on outliers and on rare classes."""

    name = "membership"
    question: Question = "private"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield each attack's figures, then those of the attack that does best."""
        why = holdout.refusal(evaluation, 2 * LEAST)
        population = None if why else _population(evaluation)
        if population is not None and len(population.others_N) < LEAST:
            why = f"{len(population.others_N)} held-out rows are not also training rows: at least {LEAST} are needed"
        if population is None or why is not None:
            yield not_computed(self.name, "membership", self.question, "lower", why or "")
            return
        conditions: dict[str, Condition] = {
            "candidates": 2 * len(population.members_N),
            "reference rows": len(population.reference_N),
            "synthetic rows": len(population.synthetic_ND),
            "distances of": holdout.space_name(evaluation),
        }
        attacks = run_attacks(population, evaluation)
        groups = _groups(evaluation, population)
        for name, scores in attacks.items():
            for group, (members_N, others_N) in groups.items():
                yield from self._of_attack(name, scores.take(members_N, others_N), group, conditions)
        yield self._worst(attacks, conditions)

    def _of_attack(
        self, attack: str, scores: Candidates, group: str | None, conditions: dict[str, Condition]
    ) -> Iterator[Figure]:
        name, few = f"membership.{attack}", min(len(scores.members_N), len(scores.others_N))
        conditions = conditions | {"candidates": len(scores.members_N) + len(scores.others_N)}
        if few < _LEAST_AT["tpr_at_fpr_10"]:
            why = f"{few} candidates of one kind: at least {_LEAST_AT['tpr_at_fpr_10']} are needed"
            yield not_computed(self.name, f"{name}.auc", self.question, "lower", why, group=group)
            return
        area, interval = intervals.of_auc(scores.members_N, scores.others_N)
        yield self._figure(f"{name}.auc", area, interval, 0.5, group, conditions)
        for kind, rate in _RATES.items():
            if len(scores.others_N) < _LEAST_AT[kind]:
                why = f"{len(scores.others_N)} held-out candidates: at least {_LEAST_AT[kind]} are needed"
                yield not_computed(self.name, f"{name}.{kind}", self.question, "lower", why, group=group)
                continue
            value, interval = true_positives(scores, rate)
            yield self._figure(f"{name}.{kind}", value, interval, rate, group, conditions)

    def _worst(self, attacks: dict[str, Candidates], conditions: dict[str, Condition]) -> Figure:
        """Return the figure of the best attack, chosen on one half of the candidates and measured on the other."""

        def half(scores: Candidates, which: int) -> Candidates:
            return Candidates(scores.members_N[which::2], scores.others_N[which::2])

        best = max(attacks, key=lambda name: intervals.auc(*_pair(half(attacks[name], 0)))[0])
        area, interval = intervals.of_auc(*_pair(half(attacks[best], 1)))
        return self._figure("membership.worst.auc", area, interval, 0.5, None, conditions | {"attack": best})

    def _figure(
        self,
        name: str,
        value: float,
        interval: Interval,
        chance: float,
        group: str | None,
        conditions: dict[str, Condition],
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


def _pair(scores: Candidates) -> tuple[Scores, Scores]:
    return scores.members_N, scores.others_N


def _population(evaluation: Evaluation) -> Population:
    """Draw candidates and reference rows: the held-out rows are one half candidates, one half reference."""
    assert evaluation.test is not None
    drawn = holdout.equal_rows(evaluation, 2 * MOST_CANDIDATES)
    count = drawn.rows // 2
    members_N, others_N, reference_N = drawn.train_N[:count], drawn.test_N[:count], drawn.test_N[count : 2 * count]
    train_ND, test_ND = (holdout.space(evaluation, split) for split in (evaluation.train, evaluation.test))
    synthetic_N = holdout.synthetic_rows(evaluation, evaluation.budget.rows)
    return Population(
        members_N,
        others_N,
        reference_N,
        train_ND[members_N],
        test_ND[others_N],
        test_ND[reference_N],
        holdout.space(evaluation, evaluation.synthetic)[synthetic_N],
    )


def run_attacks(population: Population, evaluation: Evaluation) -> dict[str, Candidates]:
    """Return the scores of every attack by its name."""
    members, others, reference, synthetic = prepare(
        population.members_ND, population.others_ND, population.reference_ND, population.synthetic_ND
    )
    kept = min(_NEIGHBOURS, len(synthetic))
    near = [nearest(one, synthetic, kept)[0] for one in (members, others)]
    real = [nearest(one, reference, 1)[0][:, 0] for one in (members, others)]
    # Hilprecht's median heuristic: half of the candidates, whichever, have a synthetic row within it.
    radius = float(np.median(np.concatenate([one[:, 0] for one in near])))
    tiny = np.finfo(np.float64).tiny
    found = {
        "distance": [-one[:, 0] for one in near],
        "calibrated": [np.log(b + tiny) - np.log(a[:, 0] + tiny) for a, b in zip(near, real, strict=True)],
        "neighbours": [(one <= radius).sum(1) - one[:, 0] / (1 + one[:, 0]) for one in near],
        "density-ratio": _density_ratio(population, evaluation),
        "classifier": _by_classifier(population, evaluation),
    }
    return {name: Candidates(*(np.asarray(one, np.float64) for one in pair)) for name, pair in found.items()}


def _density_ratio(population: Population, evaluation: Evaluation) -> list[Scores]:
    """Return the logarithm of the ratio of two Gaussian kernel estimates, in a few principal components."""
    from scipy.special import logsumexp
    from sklearn.decomposition import PCA

    count = len(population.reference_ND)
    rows_N = evaluation.random("density").permutation(len(population.synthetic_ND))[:count]
    synthetic_ND = population.synthetic_ND[rows_N]
    both_ND = np.vstack([synthetic_ND, population.reference_ND])
    width = min(_DENSITY_WIDTH, both_ND.shape[1], len(both_ND) - 1)
    fitted = PCA(width, whiten=True, svd_solver="covariance_eigh").fit(both_ND)
    synthetic, reference = (fitted.transform(one) for one in (synthetic_ND, population.reference_ND))
    scale = float(count ** (-1 / (width + 4)))  # Scott's rule; the components have unit variance

    def log_density(base: NDArray[np.floating], rows: NDArray[np.floating]) -> Scores:
        parts = []
        for at in range(0, len(rows), 512):
            apart = (rows[at : at + 512, None] - base[None]) / scale
            parts.append(logsumexp(-0.5 * np.einsum("rbd,rbd->rb", apart, apart), axis=1))
        return np.concatenate(parts)

    candidates = [fitted.transform(one) for one in (population.members_ND, population.others_ND)]
    return [log_density(synthetic, one) - log_density(reference, one) for one in candidates]


def _by_classifier(population: Population, evaluation: Evaluation) -> list[Scores]:
    """Return how synthetic a candidate looks to trees that know synthetic rows and reference rows."""
    count = min(len(population.reference_ND), len(population.synthetic_ND))
    rows_ND = np.vstack([population.reference_ND[:count], population.synthetic_ND[:count]])
    classes_N = np.repeat([0, 1], count)
    both_ND = np.vstack([population.members_ND, population.others_ND])
    scores_N = Trees()(rows_ND, classes_N, both_ND, int(evaluation.random("attack").integers(1 << 31)))
    return np.split(scores_N, [len(population.members_ND)])


def true_positives(scores: Candidates, rate: float) -> tuple[float, Interval]:
    """Return the share of members that score above all but ``rate`` of the others, and its interval.

    The threshold is estimated from as few rows as the rate leaves, so both kinds of candidates are resampled; where
    no resample differs, the exact interval for given thresholds is what is left.
    """
    rng = np.random.default_rng(len(scores.members_N))
    members, others = np.sort(scores.members_N), np.sort(scores.others_N)

    def share(members: Scores, others: Scores) -> float:
        threshold = others[len(others) - 1 - int(rate * len(others))]
        return 1 - float(np.searchsorted(members, threshold, side="right")) / len(members)

    value = share(members, others)
    found = [
        share(
            members[np.sort(rng.integers(0, len(members), len(members)))],
            others[np.sort(rng.integers(0, len(others), len(others)))],
        )
        for _ in range(200)
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    exact = intervals.of_rare(round(value * len(members)), len(members))
    return value, Interval(
        low=min(float(low), exact.low),
        high=max(float(high), exact.high),
        method="bootstrap over candidates, 200 resamples, or Clopper-Pearson",
    )


def _groups(evaluation: Evaluation, population: Population) -> dict[str | None, tuple[NDArray[np.bool_], ...]]:
    """Return which candidates are of each group: all, outliers, and rare classes."""
    everyone = tuple(np.ones(len(one), bool) for one in (population.members_N, population.others_N))
    members, others, reference = prepare(population.members_ND, population.others_ND, population.reference_ND)
    apart = [nearest(one, reference, min(5, len(reference)))[0][:, -1] for one in (members, others)]
    # Decided without the synthetic rows, and by one threshold for both kinds.
    limit = float(np.quantile(np.concatenate(apart), 1 - _OUTLIERS))
    groups: dict[str | None, tuple[NDArray[np.bool_], ...]] = {
        None: everyone,
        "outliers": tuple(one > limit for one in apart),
    }
    train, test = evaluation.train, evaluation.test
    if train.classes is None or train.class_ids is None or test is None or test.class_ids is None:
        return groups
    counts = np.bincount(train.class_ids[train.class_ids >= 0], minlength=len(train.classes))
    for class_id in np.flatnonzero((counts > 0) & (counts < RARE * counts.sum() / np.count_nonzero(counts))).tolist():
        groups[train.classes[class_id]] = (
            train.class_ids[population.members_N] == class_id,
            test.class_ids[population.others_N] == class_id,
        )
    return groups
