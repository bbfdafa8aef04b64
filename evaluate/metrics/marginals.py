"""Each column's distribution as a small picture: real rows behind, synthetic rows before them.

Shape suffixes: N rows, M other rows, D columns, K bars, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field
from gen_engine.evaluate.exhibit import Exhibit, ShownRow
from gen_engine.evaluate.metrics.scalars import is_category

BARS: Final = 16
"""Of values; a last one, apart, is of missing values."""

BAR, GAP, HEIGHT = 6, 2, 48
"""Pixels."""

REAL, SYNTHETIC, PAPER = (190, 190, 190), (31, 98, 180), (255, 255, 255)

MOST_COLUMNS: Final = 120
A_LINE: Final = 4


def marginals(
    metric: str, fields: tuple[Field, ...], real_ND: NDArray[np.float64], synthetic_MD: NDArray[np.float64]
) -> Exhibit:
    """Return the pictures of the first columns.

    Args:
        metric: the metric that they belong to.
        fields: of the columns, none without rows.
        real_ND: real rows; ids of categories, NaN for missing values.
        synthetic_MD: synthetic rows.
    """
    shown = fields[:MOST_COLUMNS]
    rows = [
        ShownRow(caption=field.column, image=picture(*shares(field, real_ND[:, place], synthetic_MD[:, place])))
        for place, field in enumerate(shown)
    ]
    more = f" The first {MOST_COLUMNS} of {len(fields)} columns." if len(fields) > MOST_COLUMNS else ""
    return Exhibit(
        metric=metric,
        title="The columns, one by one",
        note="Grey: real rows of --train; blue: synthetic rows. Numbers from their least to their greatest value, the "
        "outermost 1 in 200 at either end left out; categories by their frequency; the last bar, apart: missing "
        f"values.{more}",
        lines=tuple(tuple(rows[start : start + A_LINE]) for start in range(0, len(rows), A_LINE)),
    )


def shares(
    field: Field, real_N: NDArray[np.float64], synthetic_M: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of the bars of real and of synthetic rows, [BARS + 1] each; the last is of missing values."""
    present_N = real_N[~np.isnan(real_N)]
    if is_category(field):
        values, counts = np.unique(present_N, return_counts=True)
        edges = values[np.argsort(-counts, kind="stable")]
        return tuple(_of_categories(one, edges) for one in (real_N, synthetic_M))  # type: ignore[return-value]
    if not len(present_N):
        edges = np.linspace(0.0, 1.0, BARS + 1)
    else:
        low, high = np.quantile(present_N, (0.005, 0.995), method="nearest")
        # Halves: the difference of two finite numbers may be infinite.
        edges = 2 * np.linspace(low / 2, high / 2, BARS + 1) if high > low else low + np.linspace(0.0, 1.0, BARS + 1)
    return tuple(_of_numbers(one, edges) for one in (real_N, synthetic_M))  # type: ignore[return-value]


def _of_categories(values_N: NDArray[np.float64], order: NDArray[np.float64]) -> NDArray[np.float64]:
    """The most frequent categories, the rest together in the last of the bars."""
    place_of = {value: min(place, BARS - 1) for place, value in enumerate(order.tolist())}
    missing = np.isnan(values_N)
    places = [place_of.get(value, BARS - 1) for value in values_N[~missing].tolist()]
    counts = np.bincount(places, minlength=BARS) if places else np.zeros(BARS)
    return np.append(counts, missing.sum()) / max(len(values_N), 1)


def _of_numbers(values_N: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = np.isnan(values_N)
    places = np.clip(np.searchsorted(edges, values_N[~missing], side="right") - 1, 0, BARS - 1)
    return np.append(np.bincount(places, minlength=BARS), missing.sum()) / max(len(values_N), 1)


def picture(real_K: NDArray[np.float64], synthetic_K: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the bars as pixels, uint8 [H, W, 3]; the greatest share of either is as high as the picture."""
    most = max(float(real_K.max()), float(synthetic_K.max()), 1e-12)
    width = len(real_K) * (BAR + GAP) + BAR
    made = np.full((HEIGHT, width, 3), PAPER, np.uint8)
    for place in range(len(real_K)):
        left = place * (BAR + GAP) + (BAR if place == len(real_K) - 1 else 0)
        for share, colour, inset in ((real_K[place], REAL, 0), (synthetic_K[place], SYNTHETIC, BAR // 3)):
            tall: Any = round(float(share) / most * (HEIGHT - 1)) + (share > 0)
            made[HEIGHT - min(tall, HEIGHT) :, left + inset : left + BAR - inset] = colour
    return made
