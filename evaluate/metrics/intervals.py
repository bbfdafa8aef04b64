"""Confidence intervals at 95 %.

What they cover is the expected value of the same estimator at the same number of rows, over samples of the same
distributions. An estimator that is biased at this size, such as the Fréchet distance, is compared with real data at
the same size, and its bias is not removed.

Shape suffixes: N rows, P partitions, G blocks, R resamples, M moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gen_engine.evaluate.figures import LEVEL, Interval

Floats = NDArray[np.float64]

BLOCKS: Final = 20
"""Blocks of a block interval: 19 degrees of freedom, so that it is 7 % wider than one with a known spread."""

_BLOCK_ROWS: Final = 1_000
_TAIL: Final = (1 - LEVEL) / 2
_RESAMPLED_VALUES: Final = 1 << 24
"""Draws of resampled rows that are in memory at a time."""


def of_proportion(successes: float, total: float) -> Interval:
    """Return Wilson's score interval: for shares of rows.

    E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22 (1927).

    Args:
        successes: rows that have the property.
        total: all rows; an effective number of them, not a whole one, where rows are not independent.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    _check_trials(successes, total)
    z2 = float(stats.norm.ppf(1 - _TAIL)) ** 2
    centre = (successes + z2 / 2) / (total + z2)
    half = np.sqrt(z2 * (successes * (total - successes) / total + z2 / 4)) / (total + z2)
    low, high = np.clip([centre - half, centre + half], 0, 1)
    return Interval(low=float(low), high=float(high), method=f"Wilson, {total:,.0f} rows")


def of_rare(successes: int, total: int) -> Interval:
    """Return Clopper and Pearson's exact interval, which never covers too little: for counts near zero.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    _check_trials(successes, total)
    found = stats.binomtest(successes, total).proportion_ci(LEVEL, "exact")
    return Interval(low=float(found.low), high=float(found.high), method=f"Clopper-Pearson, {total:,} rows")


def over_seeds(values: ArrayLike) -> Interval | None:
    """Return Student's interval for the mean of independent trainings; None for one of them.

    Raises:
        ValueError: there are no values.
    """
    values_S = np.asarray(values, np.float64)
    if not len(values_S):
        raise ValueError("an interval over no seeds")
    if len(values_S) == 1:
        return None
    error = values_S.std(ddof=1) / np.sqrt(len(values_S))
    return _student(float(values_S.mean()), float(error), len(values_S), f"t, {len(values_S)} seeds")


def partitions(rows: int) -> Iterator[list[NDArray[np.intp]]]:
    """Yield partitions of rows into blocks of equal size, for :func:`over_blocks`: at random, but the same each time.

    Blocks of a thousand rows or more where there are enough, since an estimator of few rows may behave otherwise; then
    several partitions, into halves at least, together of as many degrees of freedom.
    """
    rng = np.random.default_rng(rows)
    blocks = int(np.clip(rows // _BLOCK_ROWS, 2, BLOCKS))
    for _ in range(-(-(BLOCKS - 1) // (blocks - 1))):
        yield np.array_split(rng.permutation(rows), blocks)


def over_blocks(value: float, blocks_PG: ArrayLike, *, within: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """Return an interval from the same estimator on disjoint blocks of rows, each a G-th of them.

    Its standard error is that of the blocks' mean: for estimators whose variance falls as 1/n, in which distances
    between rows enter, so that a bootstrap, which repeats rows, would be wrong. That the blocks' mean differs from the
    value, by a bias that depends on the size, does not matter: only their spread enters. The scaling is that of
    subsampling: D. N. Politis and J. P. Romano, Annals of Statistics 22 (1994).

    Args:
        value: the estimate from all rows.
        blocks_PG: the estimates from the blocks of one partition, [G], or of several, [P, G]; at least two blocks.
        within: the range of the quantity.

    Raises:
        ValueError: there are fewer than two blocks.
    """
    found = np.atleast_2d(np.asarray(blocks_PG, np.float64))
    count, blocks = found.shape
    if blocks < 2:
        raise ValueError(f"an interval over {blocks} blocks: at least 2 are needed")
    error = np.sqrt(found.var(axis=1, ddof=1).mean() / blocks)
    method = f"t, {blocks} blocks of rows" + (f", {count} partitions" if count > 1 else "")
    # Partitions of the same rows are not independent: with all of them counted, 95 % intervals covered 88 %.
    return _student(value, float(error), float(np.sqrt(count)) * (blocks - 1) + 1, method, within)


def jackknife(
    value: float, without_G: ArrayLike, without_pairs: ArrayLike, *, within: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """Return an interval from the estimates without each of G blocks of rows (the delete-a-group jackknife).

    For smooth functions of moments, which need nearly all rows to be defined. Near equal distributions a distance is
    quadratic in the rows, and the jackknife counts the variance of its quadratic part twice (B. Efron and C. Stein,
    *The jackknife estimate of variance*, Annals of Statistics 9, 1981): that part is estimated from the interactions
    of pairs of blocks, and taken away once.

    Args:
        value: the estimate from all rows.
        without_G: the estimates without a block each, an even number.
        without_pairs: the estimates without blocks 0 and 1, without 2 and 3, and so on.
        within: the range of the quantity.

    Raises:
        ValueError: there are fewer than four blocks, or the pairs are not half as many.
    """
    found_G, found_P = np.asarray(without_G, np.float64), np.asarray(without_pairs, np.float64)
    count = len(found_G)
    if count < 4 or 2 * len(found_P) != count:
        raise ValueError(f"a jackknife over {count} blocks and {len(found_P)} pairs of them")
    twice = (count - 1) / count * float(np.sum((found_G - found_G.mean()) ** 2))
    # 0 for a mean, whichever its rows: what is left is that two blocks do together more than each does alone.
    interactions = value - (count - 1) / count * (found_G[::2] + found_G[1::2]) + (count - 2) / count * found_P
    quadratic = count * (count - 1) / 2 * float(interactions.var(ddof=1))
    error = np.sqrt(max(twice - quadratic, twice / 2))
    return _student(value, float(error), count, f"jackknife, {count} blocks of rows", within)


def bootstrap(
    moments_NM: ArrayLike,
    statistic: Callable[[Floats], Floats],
    rng: np.random.Generator,
    *,
    resamples: int,
) -> Interval:
    """Return the bias-corrected and accelerated bootstrap interval of a function of means over rows.

    A statistic of means is computed for all resamples at once: no row is copied. B. Efron, *Better bootstrap
    confidence intervals*, JASA 82 (1987).

    Args:
        moments_NM: what is averaged over the rows, such as x, y and xy.
        statistic: means [R, M] → the statistic [R].
        rng: draws the rows.
        resamples: how many; the bounds are their quantiles.

    Raises:
        ValueError: there are fewer than two rows.
    """
    moments = np.asarray(moments_NM, np.float64)
    count = len(moments)
    if count < 2:
        raise ValueError(f"a bootstrap over {count} rows: at least 2 are needed")
    means_RM = np.empty((resamples, moments.shape[1]))
    step = max(1, _RESAMPLED_VALUES // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        weights_RN = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means_RM[start : start + size] = weights_RN @ moments / count
    mean_M = moments.mean(0)
    value = float(statistic(mean_M[None])[0])
    without_N = statistic((mean_M * count - moments) / (count - 1))
    low, high = _accelerated(value, statistic(means_RM), without_N)
    return Interval(low=low, high=high, method=f"bootstrap (BCa) over rows, {resamples} resamples")


def _accelerated(value: float, found_R: Floats, without_N: Floats) -> tuple[float, float]:
    below = (np.count_nonzero(found_R < value) + 0.5 * np.count_nonzero(found_R == value)) / len(found_R)
    bias = stats.norm.ppf(np.clip(below, 1 / (len(found_R) + 1), len(found_R) / (len(found_R) + 1)))
    apart_N = without_N.mean() - without_N
    spread = float(np.sum(apart_N**2)) ** 1.5
    acceleration = float(np.sum(apart_N**3)) / (6 * spread) if spread > 0 else 0.0
    z = bias + stats.norm.ppf([_TAIL, 1 - _TAIL])
    low, high = np.quantile(found_R, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def auc(positive_N: ArrayLike, negative_N: ArrayLike) -> tuple[float, float]:
    """Return the area under the ROC curve of scores, ties counted half, and its standard error.

    E. R. DeLong et al., *Comparing the areas under two or more correlated receiver operating characteristic curves*,
    Biometrics 44 (1988), by ranks: X. Sun and W. Xu, IEEE Signal Processing Letters 21 (2014).

    Raises:
        ValueError: a class has fewer than two rows.
    """
    positive, negative = np.asarray(positive_N, np.float64), np.asarray(negative_N, np.float64)
    if min(len(positive), len(negative)) < 2:
        raise ValueError(f"an AUC of {len(positive)} and {len(negative)} rows: each class needs at least 2")
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    above_P = (ranks[: len(positive)] - stats.rankdata(positive)) / len(negative)
    below_N = 1 - (ranks[len(positive) :] - stats.rankdata(negative)) / len(positive)
    variance = above_P.var(ddof=1) / len(positive) + below_N.var(ddof=1) / len(negative)
    return float(above_P.mean()), float(np.sqrt(variance))


def of_auc(positive_N: ArrayLike, negative_N: ArrayLike) -> tuple[float, Interval]:
    """Return the area under the ROC curve of scores of rows that no model was trained on, and its interval.

    With every positive above every negative, DeLong's standard error is 0; the bound is then that of the exact
    interval for a share of pairs, taken of as many independent pairs as the smaller class has rows.

    Raises:
        ValueError: a class has fewer than two rows.
    """
    value, error = auc(positive_N, negative_N)
    pairs = min(len(np.asarray(positive_N)), len(np.asarray(negative_N)))
    if error == 0:
        exact = of_rare(round(value * pairs), pairs)
        return value, Interval(low=exact.low, high=exact.high, method="DeLong, exact at the end of the scale")
    half = float(stats.norm.ppf(1 - _TAIL)) * error
    return value, Interval(low=max(0.0, value - half), high=min(1.0, value + half), method="DeLong")


def mean_of_folds(areas: Sequence[float], errors: Sequence[float], *, shared: float) -> Interval:
    """Return the interval of the mean of the folds' AUCs, whose standard errors are known.

    Args:
        areas: AUC of each fold, on rows that its model was not trained on.
        errors: their standard errors.
        shared: by which factor the mean's variance exceeds that of independent folds.
    """
    half = float(stats.norm.ppf(1 - _TAIL) * np.sqrt(shared * np.sum(np.square(errors)))) / len(errors)
    value = float(np.mean(areas))
    return Interval(low=max(0.0, value - half), high=min(1.0, value + half), method=f"DeLong, {len(errors)} folds")


def _student(
    value: float, error: float, count: float, method: str, within: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    half = float(stats.t.ppf(1 - _TAIL, count - 1)) * error
    low, high = np.clip([value - half, value + half], *within)
    return Interval(low=float(low), high=float(high), method=method)


def _check_trials(successes: float, total: float) -> None:
    if not 0 <= successes <= total or total <= 0:
        raise ValueError(f"{successes} of {total} is no proportion")
