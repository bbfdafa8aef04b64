"""What the watch measures with: real rows, and the same figures of real rows, below which no generator can be.

Every limit of an alarm is a multiple of what real rows have among themselves; see `gen_engine.train.watch.rules`.

Legend: N training rows, R reference rows, K features, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.image_data import ImageData
from gen_engine.train.data.mapped import Gathering
from gen_engine.train.watch.features import (
    Floats,
    Gaussian,
    PixelFeatures,
    first_of_each,
    nearest_other,
    spread,
    two_nearest,
)

BUDGET = 1000
"""Samples, and reference rows, of a look."""

LEAST = 16
"""Rows of a group, the data or a class, of which figures mean something."""

SEARCHED = 200_000
"""Most training rows among which copies are sought."""

QUANTILE = 0.01
"""Share of real rows that count as near-duplicates, copies or saturated; what samples have is compared with it."""

STREAM = 0x57415443
"""Second seed of the watch's own random numbers."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Reference rows that are compared together: all, or those of one class."""

    rows_R: NDArray[np.int64]
    """Their places among the reference rows, which are also those of the samples with their labels."""

    gaussian: Gaussian
    spread: float


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """Reference rows and what they show."""

    features: PixelFeatures
    images_RHWC: NDArray[np.uint8]
    others_RHWC: NDArray[np.uint8]
    """Other real rows, with the same labels."""

    labels_R: NDArray[np.int64] | None
    """Labels of the reference rows and of the samples: both have the same classes in the same numbers."""

    groups: tuple[Group, ...]
    """All rows first, then each class that has enough."""

    training_NK: Floats
    """Training rows, each image once."""

    near: float
    """Two samples that are nearer than this are near-duplicates: 1 % of reference rows have another so near."""

    copied: float
    """A sample is a copy if its nearest training row is nearer than this share of the distance to the second nearest:
    1 % of training rows are so placed among the others (Lowe 2004 tests matches by this ratio)."""

    saturated: float
    """An image is saturated if more than this share of its values are 0 or 255: 1 % of reference rows have more."""

    floors: dict[str, float]
    """Figures of other real rows in the place of samples, by name."""

    @property
    def scale(self) -> float:
        """The Fréchet distance of a generator that only makes the mean image."""
        return self.groups[0].gaussian.scale


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Rows of the data, as indices into it."""

    reference_R: NDArray[np.int64]
    others_R: NDArray[np.int64]
    """Different rows of the same classes in the same numbers."""


def measure_real(data: ImageData, *, conditional: bool) -> Yardstick | None:
    """The yardstick of these data; None when they are too few or all equal."""
    labels_N = data.labels if conditional else None
    chosen = _choose(len(data.images_NHWC), labels_N)
    if chosen is None:
        return None
    images_RHWC, others_RHWC = data.images_NHWC[chosen.reference_R], data.images_NHWC[chosen.others_R]
    features = PixelFeatures.fit(np.concatenate([images_RHWC, others_RHWC]))
    real_RK, other_RK = features(images_RHWC), features(others_RHWC)
    labels_R = None if labels_N is None else labels_N[chosen.reference_R]
    groups = _groups(real_RK, labels_R)
    if not groups:
        return None
    kept_N = _searched(data.images_NHWC)
    training_NK = features.of_rows(Gathering(data.images_NHWC), kept_N)
    own_N = np.arange(0, len(kept_N), -(-len(kept_N) // BUDGET))
    ratio_N = copy_ratio(training_NK[own_N], training_NK, own_N)
    yardstick = Yardstick(
        features=features,
        images_RHWC=images_RHWC,
        others_RHWC=others_RHWC,
        labels_R=labels_R,
        groups=groups,
        training_NK=training_NK,
        near=float(np.quantile(nearest_other(real_RK), QUANTILE)),
        copied=float(np.quantile(ratio_N, QUANTILE)),
        saturated=float(np.quantile(saturation(images_RHWC), 1.0 - QUANTILE)),
        floors={},
    )
    yardstick.floors.update(compare(yardstick, others_RHWC, other_RK) | {"copies": QUANTILE})
    return yardstick


def compare(yardstick: Yardstick, images_SHWC: NDArray[np.uint8], rows_SK: Floats) -> dict[str, float]:
    """How samples compare with the reference rows, by name; figures of one sample per reference row."""
    distance, diversity = [], []
    for group in yardstick.groups:
        own_SK = rows_SK[group.rows_R]
        distance.append(Gaussian.fit(own_SK).frechet(group.gaussian))
        diversity.append(spread(own_SK) / group.spread)
    levels_SD = images_SHWC.reshape(len(images_SHWC), -1)
    return {
        "frechet": distance[0],
        "frechet_worst_class": max(distance[1:], default=distance[0]),
        "diversity": diversity[0],
        "diversity_worst_class": min(diversity[1:], default=diversity[0]),
        "duplicates": float((nearest_other(rows_SK) < yardstick.near).mean()),
        "saturated": float((saturation(images_SHWC) > yardstick.saturated).mean()),
        "constant": float((levels_SD.max(1) - levels_SD.min(1) <= 1).mean()),
    }


def copies(yardstick: Yardstick, rows_SK: Floats) -> float:
    """Share of samples that are copies of a training row."""
    return float((copy_ratio(rows_SK, yardstick.training_NK) < yardstick.copied).mean())


def copy_ratio(queries_SK: Floats, training_NK: Floats, own_S: NDArray[np.int64] | None = None) -> Floats:
    """Distance to the nearest training row ÷ to the second nearest, float64 [S], without the rows that they are."""
    nearest_S2 = two_nearest(queries_SK, training_NK, own_S)
    return np.asarray(nearest_S2[:, 0] / np.maximum(nearest_S2[:, 1], 1e-12), np.float64)


def saturation(images_NHWC: NDArray[np.uint8]) -> Floats:
    """Share of each image's values that are 0 or 255, float64 [N]."""
    flat_ND = images_NHWC.reshape(len(images_NHWC), -1)
    return np.asarray(((flat_ND == 0) | (flat_ND == 255)).mean(1), np.float64)


def _choose(count: int, labels_N: NDArray[np.int64] | None) -> Chosen | None:
    """Two disjoint sets of rows with the same number of each class; a rare class gives half of its rows to each."""
    rng = np.random.Generator(np.random.PCG64([0, STREAM]))
    classes = [np.arange(count)] if labels_N is None else [np.flatnonzero(labels_N == c) for c in np.unique(labels_N)]
    share = max(1, BUDGET // len(classes))
    reference, others = [], []
    for rows in classes:
        mixed, each = rng.permutation(rows), min(share, len(rows) // 2)
        reference.append(mixed[:each])
        others.append(mixed[each : 2 * each])
    one, other = np.concatenate(reference).astype(np.int64), np.concatenate(others).astype(np.int64)
    return Chosen(reference_R=one, others_R=other) if len(one) >= LEAST else None


def _groups(real_RK: Floats, labels_R: NDArray[np.int64] | None) -> tuple[Group, ...]:
    """The groups whose rows differ; none when all rows are equal."""
    places = [np.arange(len(real_RK))]
    if labels_R is not None:
        of_classes = [np.flatnonzero(labels_R == label) for label in np.unique(labels_R)]
        places += [rows for rows in of_classes if len(rows) >= LEAST]
    groups = [Group(rows_R=rows, gaussian=Gaussian.fit(real_RK[rows]), spread=spread(real_RK[rows])) for rows in places]
    return tuple(group for group in groups if group.spread > 0.0)


def _searched(images_NHWC: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The rows among which copies are sought: evenly spaced if there are too many, each image once."""
    spaced_N = np.arange(0, len(images_NHWC), -(-len(images_NHWC) // SEARCHED))
    rows = Gathering(images_NHWC)
    return spaced_N[first_of_each(rows.take(spaced_N[at : at + 1])[0] for at in range(len(spaced_N)))]
