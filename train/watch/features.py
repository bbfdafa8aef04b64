"""A fixed feature space that costs nothing to learn, and distances in it.

Images are average-pooled to at most 16×16 and projected onto the principal axes of real rows. The space is linear and
fixed for the run, so figures of successive epochs compare. It is no perceptual space: a generator can be good here and
bad to the eye, but a collapsed, diverged or copying one is far off in any space.

Legend: N, M rows, H height, W width, C channels, D pooled values, K features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.mapped import Gathering

Floats = NDArray[np.float64]

POOLED = 16
"""Most pixels per side after pooling."""

DIMS = 64
"""Most features."""

ROWS_PER_DIM = 10
"""Rows for each feature of a covariance, so that a Fréchet distance is not mostly bias."""

BLOCK = 4096
"""Rows that are in memory as floats at once."""

BLOCK_BYTES = 32 * 2**20
"""Bytes of images that are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class PixelFeatures:
    """Pooled pixels, projected onto principal axes."""

    mean_D: Floats
    axes_DK: Floats

    @classmethod
    def fit(cls, images_NHWC: NDArray[np.uint8]) -> PixelFeatures:
        """The axes of most variance among these rows (Pearson 1901), at most one for each ten rows."""
        pooled_ND = _pooled(images_NHWC)
        mean_D = pooled_ND.mean(0)
        centred_ND = pooled_ND - mean_D
        _, axes_DD = np.linalg.eigh(centred_ND.T @ centred_ND)
        dims = max(1, min(DIMS, pooled_ND.shape[1], len(pooled_ND) // ROWS_PER_DIM))
        return cls(mean_D=mean_D, axes_DK=np.ascontiguousarray(axes_DD[:, ::-1][:, :dims]))

    def __call__(self, images_NHWC: NDArray[np.uint8]) -> Floats:
        """float64 [N, K]."""
        return self.of_rows(Gathering(images_NHWC), np.arange(len(images_NHWC)))

    def of_rows(self, images: Gathering, rows_N: NDArray[np.int64]) -> Floats:
        """float64 [N, K] of some rows, of which a block is in memory at a time."""
        size = max(1, min(BLOCK, BLOCK_BYTES // max(1, images.array[0].nbytes)))
        blocks = (images.take(rows_N[at : at + size]) for at in range(0, len(rows_N), size))
        return np.concatenate([(_pooled(block) - self.mean_D) @ self.axes_DK for block in blocks])


def _pooled(images_NHWC: NDArray[np.uint8]) -> Floats:
    """float64 [N, D] in [0, 1]; a last row or column that fills no cell is left out."""
    count, height, width, channels = images_NHWC.shape
    cell = -(-height // POOLED)
    rows, columns = height // cell, width // cell
    kept = images_NHWC[:, : rows * cell, : columns * cell]
    pooled = kept.reshape(count, rows, cell, columns, cell, channels).mean((2, 4)) / 255.0
    return np.asarray(pooled.reshape(count, -1), np.float64)


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """The normal distribution fitted to rows."""

    mean_K: Floats
    covariance_KK: Floats

    @classmethod
    def fit(cls, rows_NK: Floats) -> Gaussian:
        """Mean and covariance of at least two rows, of as many features as they can carry."""
        dims = max(1, min(rows_NK.shape[1], len(rows_NK) // ROWS_PER_DIM))
        kept_NK = rows_NK[:, :dims]
        return cls(mean_K=kept_NK.mean(0), covariance_KK=np.atleast_2d(np.cov(kept_NK, rowvar=False)))

    def frechet(self, other: Gaussian) -> float:
        """Squared Fréchet distance (Dowson & Landau 1982): ‖μ-μ'‖² + tr(Σ + Σ' - 2 (Σ½ Σ' Σ½)½)."""
        root_KK = _root(self.covariance_KK)
        cross = np.linalg.eigvalsh(root_KK @ other.covariance_KK @ root_KK)
        traces = np.trace(self.covariance_KK) + np.trace(other.covariance_KK)
        shift = np.square(self.mean_K - other.mean_K).sum()
        return float(max(0.0, shift + traces - 2.0 * np.sqrt(cross.clip(0.0)).sum()))

    @property
    def scale(self) -> float:
        """tr Σ: the distance of rows that all are the mean."""
        return float(np.trace(self.covariance_KK))


def _root(symmetric_KK: Floats) -> Floats:
    values_K, vectors_KK = np.linalg.eigh(symmetric_KK)
    return np.asarray((vectors_KK * np.sqrt(values_K.clip(0.0))) @ vectors_KK.T, np.float64)


def distances(one_NK: Floats, other_MK: Floats) -> Floats:
    """Euclidean distances, float64 [N, M]."""
    squares = np.square(one_NK).sum(1)[:, None] + np.square(other_MK).sum(1) - 2.0 * (one_NK @ other_MK.T)
    return np.asarray(np.sqrt(squares.clip(0.0)), np.float64)


def spread(rows_NK: Floats) -> float:
    """Mean distance of two different rows; 0 for fewer than two."""
    count = len(rows_NK)
    return float(distances(rows_NK, rows_NK).sum() / (count * (count - 1))) if count > 1 else 0.0


def nearest_other(rows_NK: Floats) -> Floats:
    """Distance of each row to the nearest other one, float64 [N]."""
    between = distances(rows_NK, rows_NK)
    np.fill_diagonal(between, np.inf)
    return np.asarray(between.min(1), np.float64)


def two_nearest(queries_NK: Floats, rows_MK: Floats, own_N: NDArray[np.int64] | None = None) -> Floats:
    """Distances of each query to the nearest and second nearest row, float64 [N, 2], without the row that it is."""
    best_N2 = np.full((len(queries_NK), 2), np.inf)
    for start in range(0, len(rows_MK), BLOCK):
        block = distances(queries_NK, rows_MK[start : start + BLOCK])
        if own_N is not None:
            inside = np.flatnonzero((own_N >= start) & (own_N < start + block.shape[1]))
            block[inside, own_N[inside] - start] = np.inf
        joined = np.concatenate([best_N2, block], axis=1)
        best_N2 = np.partition(joined, 1, axis=1)[:, :2]
    return best_N2


def first_of_each(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Indices of the images that repeat no earlier one, int64, ascending."""
    seen: dict[bytes, int] = {}
    for index, image in enumerate(images):
        seen.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), index)
    return np.fromiter(seen.values(), np.int64, len(seen))
