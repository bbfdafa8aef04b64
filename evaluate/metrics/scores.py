"""What models score on test rows, over seeds and over resamples of those rows.

A result is an array [S, 1 + R]: for each seed the value on the test rows, then its values on R bootstrap resamples
of them, the same resamples for every model. So differences and ratios of models are paired: they are differences and
ratios of these arrays. A resample without a row that the score is of has NaN.

Shape suffixes: N test rows, K classes, S seeds, R resamples, W weightings (the rows themselves, then resamples).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gen_engine.evaluate.figures import LEVEL, Interval
from gen_engine.evaluate.metrics import intervals

Floats = NDArray[np.float64]
Results: TypeAlias = dict[str, Floats]
"""Name of a score → [S, 1 + R], or [1, 1 + R] of what no seed enters."""

_VALUES: Final = 1 << 22
"""Weights that are in memory at a time."""

REGRESSION: Final = ("r2", "rmse")

SHARE: Final = (0.0, 1.0)
"""Range of every score but those of a regression."""


def range_of(score: str) -> tuple[float, float]:
    """Return the least and the greatest value that a score can have."""
    return {"r2": (-np.inf, 1.0), "rmse": (0.0, np.inf)}.get(score, SHARE)


def resampled(rows: int, resamples: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return how often each test row occurs: once, and in each bootstrap resample, uint8 [1 + R, N]."""
    weights_WN = np.ones((1 + resamples, rows), np.uint8)
    for one in range(1, 1 + resamples):
        counts = np.bincount(rng.integers(0, rows, rows), minlength=rows)
        weights_WN[one] = np.minimum(counts, 255)
    return weights_WN


def of_classes(scores_NK: Floats, truth_N: NDArray[np.int64], weights_WN: NDArray[np.uint8]) -> dict[str, Floats]:
    """Return accuracy, balanced accuracy, AUC and recalls of each weighting, [W]; ``recall.K`` by class id.

    Balanced accuracy and AUC (one class against the rest) are means over the classes that have test rows. With two
    classes there is also the average precision of the rarer one.
    """
    right_N = scores_NK.argmax(1) == truth_N
    present = np.unique(truth_N).tolist()
    found: dict[str, list[Floats]] = {}
    for weights in _chunks(weights_WN):
        recalls = {one: _share(weights[:, truth_N == one], right_N[truth_N == one]) for one in present}
        part = {"accuracy": _share(weights, right_N), "balanced_accuracy": mean_known(list(recalls.values()))}
        part |= {f"recall.{one}": value for one, value in recalls.items()}
        if len(present) > 1:
            curves = {one: _curves(scores_NK[:, one], truth_N == one, weights) for one in present}
            part["auc"] = mean_known([area for area, _ in curves.values()])
            if scores_NK.shape[1] == 2:
                rarer = int(np.argmin(np.bincount(truth_N, minlength=2)))
                part["average_precision"] = curves[rarer][1]
        for name, values in part.items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def of_numbers(predicted_N: Floats, truth_N: Floats, weights_WN: NDArray[np.uint8]) -> dict[str, Floats]:
    """Return R² and the root mean squared error of each weighting, [W]; R² is missing if the target is constant."""
    parts_r2, parts_rmse = [], []
    squares_N = (predicted_N - truth_N) ** 2
    for weights in _chunks(weights_WN):
        total_W = weights.sum(1)
        mean_W = weights @ truth_N / total_W
        spread_W = np.array([float(one @ (truth_N - mean) ** 2) for one, mean in zip(weights, mean_W, strict=True)])
        error_W = weights @ squares_N
        parts_rmse.append(np.sqrt(error_W / total_W))
        with np.errstate(divide="ignore", invalid="ignore"):
            parts_r2.append(1 - error_W / spread_W)
    r2 = np.concatenate(parts_r2)
    found = {"rmse": np.concatenate(parts_rmse)}
    return found | ({"r2": r2} if np.isfinite(r2).all() else {})


def stacked(seeds: Sequence[dict[str, Floats]]) -> Results:
    """Return the results of a model over seeds."""
    return {name: np.stack([one[name] for one in seeds]) for name in seeds[0] if all(name in one for one in seeds)}


def mean_known(values: Sequence[Floats]) -> Floats:
    """Return the mean of equally long arrays, place by place, of the values that are not NaN; NaN where all are."""
    every = np.stack(values)
    known = ~np.isnan(every)
    return _quotient(np.where(known, every, 0).sum(0), known.sum(0))


def value_and_interval(
    result_SW: Floats,
    *,
    within: tuple[float, float] = (-np.inf, np.inf),
    rows: int | None = None,
    ends: tuple[float, ...] = SHARE,
) -> tuple[float, Interval]:
    """Return the mean over seeds and its interval.

    The variances of the mean over seeds and over test rows are added. The degrees of freedom are Satterthwaite's
    (Biometrics Bulletin 2, 1946): those of the few seeds count only so far as seeds matter. Which rows a model was
    trained on enters only so far as seeds draw different ones.

    Args:
        result_SW: a score, or a ratio or difference of scores.
        within: the range of the quantity; the interval is cut to it.
        rows: test rows that it is of. Where neither seeds nor resamples differ, the interval reaches as far as is
            possible for what occurs in none of so many rows; None leaves it without a width.
        ends: the values at which the interval is widened so.
    """
    by_seed, by_resample = result_SW[:, 0], result_SW[:, 1:].mean(0)
    by_resample = by_resample[~np.isnan(by_resample)]
    value, count = float(by_seed.mean()), len(by_seed)
    of_rows = float(by_resample.var(ddof=1)) if len(by_resample) > 1 else 0.0
    method = f"bootstrap over test rows, {result_SW.shape[1] - 1} resamples"
    if count == 1:
        half = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt(of_rows)
    else:
        of_seeds = float(by_seed.var(ddof=1)) / count
        freedom = (count - 1) * ((of_seeds + of_rows) / of_seeds) ** 2 if of_seeds > 0 else np.inf
        half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * np.sqrt(of_seeds + of_rows)
        method = f"t, {count} seeds, and {method}"
    if half == 0 and rows and value in ends:
        half, method = intervals.of_rare(0, rows).high, f"exact at the end of the scale, {rows:,} test rows"
    low, high = np.clip([value - half, value + half], *within)
    return value, Interval(low=float(low), high=float(high), method=method)


def _chunks(weights_WN: NDArray[np.uint8]) -> Iterator[Floats]:
    step = max(1, _VALUES // weights_WN.shape[1])
    for start in range(0, len(weights_WN), step):
        yield weights_WN[start : start + step].astype(np.float64)


def _share(weights_WN: Floats, right_N: NDArray[np.bool_]) -> Floats:
    return _quotient(weights_WN @ right_N, weights_WN.sum(1))


def _quotient(part: Floats, whole: NDArray[Any]) -> Floats:
    """Return part / whole; NaN where the whole is 0."""
    quotient: Floats = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient


def _curves(scores_N: Floats, positive_N: NDArray[np.bool_], weights_WN: Floats) -> tuple[Floats, Floats]:
    """Return the area under the ROC curve, ties counted half, and the average precision, [W] each."""
    order = np.argsort(-scores_N, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores_N[order]) != 0, True))
    weights, positive = weights_WN[:, order], positive_N[order]
    hits = np.cumsum(weights * positive, axis=1)[:, ends]
    misses = np.cumsum(weights * ~positive, axis=1)[:, ends]
    before_hits, before_misses = (np.hstack([np.zeros((len(one), 1)), one[:, :-1]]) for one in (hits, misses))
    area = ((misses - before_misses) * (hits + before_hits) / 2).sum(1)
    area = _quotient(area, hits[:, -1] * misses[:, -1])
    precision: Any = hits / np.maximum(hits + misses, 1)
    average = _quotient(((hits - before_hits) * precision).sum(1), hits[:, -1])
    return area, average
