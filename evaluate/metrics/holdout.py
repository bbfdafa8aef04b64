"""The rows that questions of privacy compare: training rows, and equally many real rows that were held out.

Whatever is found of training rows has to be found less often of the holdout, which the generator never saw: what is
common to both is the population's, and gives nobody away. That holds only if both sides are drawn alike. So a row is
never left out of one side for a reason that does not count on the other: without the held-out rows that equal a
training row, the holdout would lack what is frequent, and a generator that copies nothing would seem to leak.

Distances are of columns, or of pixels. Features count where the extractor was not fitted to the training rows: what was
fitted to them treats them unlike other rows, whatever the generator did.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.data.overlap import row_digests
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.split import Split

Features = NDArray[np.float32]
Ids = NDArray[np.intp]

MOST_ROWS: Final = 20_000
"""Most rows of each set whose neighbours are looked for."""

_WIDEST: Final = 1_024
"""Widest images that are compared pixel by pixel; larger ones by averages of blocks."""

_BEYOND_CHANCE: Final = 5.0
"""Standard errors by which more rows are shared with the training rows than these repeat among themselves. Repeated
rows come in clusters, so that the error is larger than that of as many independent rows."""


@dataclass(frozen=True, eq=False)
class Holdout:
    """Rows of equal number from both sides of the real data."""

    train_N: Ids
    test_N: Ids

    @property
    def rows(self) -> int:
        """Rows of each."""
        return len(self.train_N)


@dataclass(frozen=True, eq=False)
class Space:
    """Where distances are measured."""

    suffix: str
    """What is added to an attack's name, such as ``.pixels``."""

    name: str
    """What distances are of, in words."""

    rows: Callable[[Split, Ids], Features]
    """(split, rows) → their vectors, float32 [N, D]."""

    why_not: str | None = None
    """Why it cannot be used."""


def refusal(evaluation: Evaluation, least: int) -> str | None:
    """Return why training rows cannot be compared with held-out ones, or None."""
    if evaluation.test is None:
        return "there are no held-out real rows to compare with: give them with --test"
    rows = min(len(evaluation.train), len(evaluation.test))
    if rows < least:
        return f"{rows:,} rows of --train or --test: at least {least:,} of each are needed"
    return None


def digests(evaluation: Evaluation, split: Split) -> NDArray[np.void]:
    """Return a digest of each row's contents, [N]; computed once per split."""
    return evaluation.once(f"digests of {split.role}", lambda: row_digests(split))


def equal_rows(evaluation: Evaluation, most: int = MOST_ROWS) -> Holdout:
    """Draw as many training rows as held-out ones; there is a test split.

    All rows may be drawn, repeated ones too. If more held-out rows are also training rows than chance repeats, they
    were not held out: then both sides are drawn from :func:`single_rows`.
    """
    assert evaluation.test is not None
    if was_not_held_out(evaluation):
        train_N, test_N = single_rows(evaluation)
    else:
        train_N, test_N = np.arange(len(evaluation.train)), np.arange(len(evaluation.test))
    count = min(len(train_N), len(test_N), most)
    rng = evaluation.random("holdout")
    return Holdout(train_N=rng.permutation(train_N)[:count], test_N=rng.permutation(test_N)[:count])


def single_rows(evaluation: Evaluation) -> tuple[Ids, Ids]:
    """Return the training rows and the held-out rows whose contents occur once in all of the real data.

    The rule is the same for both sides, so which of these rows are whose is up to chance alone.
    """
    assert evaluation.test is not None
    train, test = digests(evaluation, evaluation.train), digests(evaluation, evaluation.test)
    _, ids, counts = np.unique(np.concatenate([train, test]), return_inverse=True, return_counts=True)
    once = counts[ids] == 1
    return np.flatnonzero(once[: len(train)]), np.flatnonzero(once[len(train) :])


def was_not_held_out(evaluation: Evaluation) -> bool:
    """Return whether more held-out rows equal a training row than training rows equal another one.

    If both were drawn from one population, the shares are equal in expectation, but for one row in all.
    """
    assert evaluation.test is not None
    train, test = digests(evaluation, evaluation.train), digests(evaluation, evaluation.test)
    _, ids, counts = np.unique(train, return_inverse=True, return_counts=True)
    repeated, shared = float((counts[ids] > 1).mean()), float(np.isin(test, train).mean())
    pooled = (repeated * len(train) + shared * len(test)) / (len(train) + len(test))
    error = np.sqrt(pooled * (1 - pooled) * (1 / len(train) + 1 / len(test)))
    return bool(shared - repeated > _BEYOND_CHANCE * error)


def synthetic_rows(evaluation: Evaluation, most: int) -> Ids:
    """Draw synthetic rows."""
    return evaluation.random("synthetic rows").permutation(len(evaluation.synthetic))[:most]


def spaces(evaluation: Evaluation) -> tuple[Space, ...]:
    """Return where membership is attacked: images by their features and by their pixels, other rows by features."""
    extractor = evaluation.extractor

    if evaluation.train.image is None:
        return (Space("", extractor.identity, evaluation.features_of),)
    pixels = Space(".pixels", "pixels", _pixels)
    if extractor.identity == pixels.name:
        return (pixels,)
    why_not = None
    if getattr(extractor, "fitted_to_train", True):
        why_not = (
            f"the extractor ({extractor.identity}) may have been fitted to the training rows, and would tell them "
            "apart by itself: use --features efficientnet-lite0, or read the figures of pixels"
        )
    name = f"{extractor.identity}, taken as not trained on --train"
    return Space("", name, evaluation.features_of, why_not), pixels


def space(evaluation: Evaluation, split: Split, rows_N: Ids) -> Features:
    """Return what distances of diagnostics are of, float32 [N, D]: pixels of images, features of other rows."""
    return spaces(evaluation)[-1].rows(split, rows_N)


def space_name(evaluation: Evaluation) -> str:
    """Return what distances of diagnostics are of, in words."""
    return spaces(evaluation)[-1].name


def _pixels(split: Split, rows_N: Ids) -> Features:
    """Return pixels from 0 to 1, averaged over blocks until there are few enough, float32 [N, D]."""
    from gen_engine.evaluate.features.pixels import pixels_of

    pixels_NHWC: NDArray[Any] = pixels_of(split)[rows_N]
    while pixels_NHWC[0].size > _WIDEST and min(pixels_NHWC.shape[1:3]) >= 2:
        height, width = (size // 2 * 2 for size in pixels_NHWC.shape[1:3])
        cut = pixels_NHWC[:, :height, :width].astype(np.float32)
        pixels_NHWC = (cut[:, ::2, ::2] + cut[:, 1::2, ::2] + cut[:, ::2, 1::2] + cut[:, 1::2, 1::2]) / 4
    return np.asarray(pixels_NHWC.reshape(len(rows_N), -1), np.float32) / np.float32(255)
