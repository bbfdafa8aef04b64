"""The rows that questions of privacy compare: training rows, and equally many real rows that were held out.

Whatever is found of training rows has to be found less often of the holdout, which the generator never saw: what is
common to both is the population's, and gives nobody away.

Distances are of columns, or of pixels: not of a classifier's features, which themselves know the training rows.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.data.overlap import row_digests
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.scalars import is_table
from gen_engine.evaluate.split import Split

Features = NDArray[np.float32]
Ids = NDArray[np.intp]

MOST_ROWS: Final = 20_000
"""Most rows of each set whose neighbours are looked for."""

_WIDEST: Final = 1_024
"""Widest images that are compared pixel by pixel; larger ones by averages of blocks."""


@dataclass(frozen=True, eq=False)
class Holdout:
    """Rows of equal number from both sides of the real data."""

    train_N: Ids
    test_N: Ids

    @property
    def rows(self) -> int:
        """Rows of each."""
        return len(self.train_N)


def refusal(evaluation: Evaluation, least: int) -> str | None:
    """Return why training rows cannot be compared with held-out ones, or None."""
    if evaluation.test is None:
        return "there are no held-out real rows to compare with: give them with --test"
    rows = min(len(evaluation.train), len(evaluation.test))
    if rows < least:
        return f"{rows:,} rows of --train or --test: at least {least:,} of each are needed"
    return None


def equal_rows(evaluation: Evaluation, most: int = MOST_ROWS) -> Holdout:
    """Draw as many training rows as held-out ones; there is a test split.

    Held-out rows that also occur in the training rows are left out: nothing could tell them apart.
    """
    assert evaluation.test is not None
    digests = evaluation.once("digests of train", lambda: row_digests(evaluation.train))
    test_digests = evaluation.once("digests of test", lambda: row_digests(evaluation.test))  # type: ignore[arg-type]
    fresh_N = np.flatnonzero(~np.isin(test_digests, digests))
    count = min(len(evaluation.train), len(fresh_N), most)
    rng = evaluation.random("holdout")
    return Holdout(
        train_N=rng.permutation(len(evaluation.train))[:count], test_N=fresh_N[rng.permutation(len(fresh_N))[:count]]
    )


def synthetic_rows(evaluation: Evaluation, most: int) -> Ids:
    """Draw synthetic rows."""
    return evaluation.random("synthetic rows").permutation(len(evaluation.synthetic))[:most]


def space(evaluation: Evaluation, split: Split) -> Features:
    """Return what distances are of, float32 [N, D]; computed once per split."""
    if is_table(evaluation.train):
        return evaluation.features(split)
    return evaluation.once(f"pixels of {split.role}", lambda: _pixels(split))


def space_name(evaluation: Evaluation) -> str:
    """Return what distances are of, in words."""
    return evaluation.extractor.identity if is_table(evaluation.train) else "pixels"


def _pixels(split: Split) -> Features:
    """Return pixels from 0 to 1, averaged over blocks until there are few enough, float32 [N, D]."""
    from gen_engine.evaluate.features.pixels import pixels_of

    pixels_NHWC = pixels_of(split)
    while pixels_NHWC[0].size > _WIDEST and min(pixels_NHWC.shape[1:3]) >= 2:
        height, width = (size // 2 * 2 for size in pixels_NHWC.shape[1:3])
        cut = pixels_NHWC[:, :height, :width].astype(np.float32)
        pixels_NHWC = (cut[:, ::2, ::2] + cut[:, 1::2, ::2] + cut[:, ::2, 1::2] + cut[:, 1::2, 1::2]) / 4
    return np.asarray(pixels_NHWC.reshape(len(split), -1), np.float32) / np.float32(255)
