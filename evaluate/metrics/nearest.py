"""Diagnostics of nearness: distance to the closest record, its share, the ratio of two nearest distances, authenticity.

They are no attacks: data that look safe by them have fallen to attacks (arXiv 2505.01524), and publishing decisions
that are based on them leak (arXiv 2312.05114). They help to see where copies may lie. S. Zhao et al., *CTAB-GAN*, 2021
(distance to the closest record, nearest-neighbour distance ratio); A. Alaa et al., *How faithful is your synthetic
data?*, 2022 (authenticity).

Shape suffixes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.figures import Better, Condition, Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.metrics import holdout, intervals
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.distances import Points, nearest, prepare

LEAST: Final = 50
LIMITS: Final = {
    "nearest.dcr": "a diagnostic, not an attack: it averages over rows, and a few copied rows hardly move it",
    "nearest.dcr.share": "a diagnostic, not an attack: one half also holds where every copied row has a counterpart "
    "among the held-out rows",
    "nearest.nndr": "a diagnostic, not an attack: copies of rows that lie close together have ratios near 1",
    "nearest.authenticity": "a diagnostic, not an attack: a copy of an outlier with much noise counts as inauthentic, "
    "and one in a crowd with little noise as authentic",
}
"""What a figure does not show, by the beginning of its name."""

_REAL: Final = "held-out rows"

Floats = NDArray[np.float64]


class Nearest:
    """Distances of synthetic rows from training rows, beside those of held-out real rows."""

    name = "nearest"
    question: Question = "private"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the diagnostics."""
        why = holdout.refusal(evaluation, LEAST)
        drawn = None if why else holdout.equal_rows(evaluation)
        if drawn is not None and drawn.rows < LEAST:
            why = f"{drawn.rows} rows of each side occur once in the real data: at least {LEAST} are needed"
        if drawn is None or why is not None:
            yield not_computed(self.name, "nearest", self.question, "higher", why or "")
            return
        assert evaluation.test is not None
        rows_N = holdout.synthetic_rows(evaluation, holdout.MOST_ROWS)
        synthetic, train, test = prepare(
            holdout.space(evaluation, evaluation.synthetic, rows_N),
            holdout.space(evaluation, evaluation.train, drawn.train_N),
            holdout.space(evaluation, evaluation.test, drawn.test_N),
        )
        conditions: dict[str, Condition] = {
            "synthetic rows": len(rows_N),
            "real rows": drawn.rows,
            "distances of": holdout.space_name(evaluation),
        }
        yield from self._diagnostics(synthetic, train, test, conditions)

    def _diagnostics(
        self, synthetic: Points, train: Points, test: Points, conditions: dict[str, Condition]
    ) -> Iterator[Figure]:
        (to_train, at), (real_to_train, real_at) = (nearest(one, train, 2) for one in (synthetic, test))
        to_test, test_at = nearest(synthetic, test, 1)
        for name, share in (("median", 0.5), ("quantile_5", 0.05)):
            pair = tuple(_quantile(one[:, 0], share) for one in (to_train, real_to_train))
            yield self._figure(f"nearest.dcr.{name}", "higher", pair, conditions)
        pair = tuple(_quantile(_ratios(one), 0.5) for one in (to_train, real_to_train))
        yield self._figure("nearest.nndr.median", "higher", pair, conditions)
        nearer = nearer_share(to_train[:, 0] - to_test[:, 0], at[:, 0], test_at[:, 0], len(train))
        chance = (0.5, Interval(low=0.5, high=0.5, method="exact"))
        yield self._figure("nearest.dcr.share", "lower", (nearer, chance), conditions, "chance")
        own = nearest(train, train, 1, same=True)[0][:, 0]
        pair = tuple(
            _proportion(one[:, 0] > own[where[:, 0]]) for one, where in ((to_train, at), (real_to_train, real_at))
        )
        yield self._figure("nearest.authenticity", "higher", pair, conditions)

    def _figure(
        self,
        name: str,
        better: Better,
        pair: tuple[tuple[float, Interval], ...],
        conditions: dict[str, Condition],
        what: str = _REAL,
    ) -> Figure:
        (value, interval), (usual, usual_interval) = pair
        return Figure(
            metric=self.name,
            name=name,
            question=self.question,
            better=better,
            value=value,
            interval=interval,
            ceiling=Reference(value=usual, interval=usual_interval, what=what),
            conditions=conditions | {"limit": _limit(name)},
        )


def _limit(name: str) -> str:
    return LIMITS.get(name) or LIMITS[name.rpartition(".")[0]]


def nearer_share(
    apart_N: Floats, train_at_N: NDArray[np.intp], test_at_N: NDArray[np.intp], rows: int
) -> tuple[float, Interval]:
    """Return the share of synthetic rows nearer to a training row than to a held-out one, ties by half.

    Rows with one nearest real row win or lose together. Without copies, which real rows were held out is up to chance
    alone, and the variance over all ways to draw them follows from how many synthetic rows each real one is nearest to.
    Wilson's interval is taken of as many independent rows as have that variance.

    Args:
        apart_N: distance to the nearest training row less that to the nearest held-out row.
        train_at_N: which training row is nearest.
        test_at_N: which held-out row is nearest.
        rows: training rows, and as many held-out ones.
    """
    count = len(apart_N)
    wins = [np.bincount(at[won], minlength=rows) for at, won in ((train_at_N, apart_N < 0), (test_at_N, apart_N > 0))]
    value = float(wins[0].sum() + 0.5 * np.count_nonzero(apart_N == 0)) / count
    won = np.concatenate(wins)
    spread = float(np.square(won - won.mean()).sum()) * len(won) / (len(won) - 1)
    effective = count if spread == 0 else min(count, count**2 / spread)
    return value, intervals.of_proportion(value * effective, effective)


def _ratios(distances_N2: Floats) -> Floats:
    """Return nearest over second nearest distance, [N]; 1 where both are 0."""
    first, second = distances_N2.T
    return np.asarray(np.divide(first, second, out=np.ones(len(first)), where=second > 0))


def _quantile(values_N: Floats, share: float) -> tuple[float, Interval]:
    """Return a quantile and its interval by order statistics, which are binomial."""
    from scipy import stats

    ordered, count = np.sort(values_N), len(values_N)
    low, high = stats.binom.ppf([0.025, 0.975], count, share).astype(int)
    value = float(np.quantile(ordered, share))
    interval = Interval(
        low=min(value, float(ordered[max(0, low - 1)])),
        high=max(value, float(ordered[min(count - 1, high)])),
        method="order statistics",
    )
    return value, interval


def _proportion(hits_N: NDArray[np.bool_]) -> tuple[float, Interval]:
    return float(hits_N.mean()), intervals.of_proportion(int(hits_N.sum()), len(hits_N))
