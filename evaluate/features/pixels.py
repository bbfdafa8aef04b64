"""Pixels as features, and their principal components: for small images that are no photographs.

Shape suffixes: N rows, D features, H height, W width, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.data.overlap import split_digest
from gen_engine.evaluate.metrics.contract import Extractor
from gen_engine.evaluate.split import Split

_CHUNK: Final = 4096
_COMPONENTS: Final = 64
_FITTED_ROWS: Final = 20_000
_EXACT_WIDTH: Final = 4096
"""Widest images whose components are computed exactly, from a covariance; of wider ones by random projections."""


def pixels_of(split: Split) -> NDArray[Any]:
    """Return the images of a split, uint8 [N, H, W, C].

    Raises:
        RequestError: the rows are no images.
    """
    image = split.image
    if image is None:
        raise RequestError(f"{split.source} has no images")
    return np.asarray(split[image.name])


@dataclass(frozen=True)
class Pixels:
    """Every pixel is a feature, from 0 to 1."""

    identity: str = "pixels"

    fitted_to_train: ClassVar[bool] = False

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return float32 [N, HWC]."""
        flat = pixels_of(split).reshape(len(split), -1)
        return flat.astype(np.float32) / np.float32(255)


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of the pixels."""

    identity: str
    mean_D: NDArray[np.float32]
    axes_KD: NDArray[np.float32]

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return float32 [N, K]."""
        flat = pixels_of(split).reshape(len(split), -1)
        parts = [
            (flat[at : at + _CHUNK].astype(np.float32) / np.float32(255) - self.mean_D) @ self.axes_KD.T
            for at in range(0, len(flat), _CHUNK)
        ]
        return np.concatenate(parts)


def open_pixels(argument: str | None, sides: Sides, seed: int) -> Extractor:
    """Return pixels as features."""
    if argument is not None:
        raise RequestError(f"--features pixels:{argument}: pixels take no argument")
    return Pixels()


def open_pca(argument: str | None, sides: Sides, seed: int) -> Extractor:
    """Fit components to the training rows: 64, or as many as the argument says.

    Raises:
        RequestError: the argument is no number of components that the training rows have.
    """
    from sklearn.decomposition import PCA

    train = sides.train
    width = int(np.prod(pixels_of(train).shape[1:]))
    most = min(width, len(train) - 1)
    count = min(_COMPONENTS, most) if argument is None else _count(argument, most)
    rows_N = np.random.default_rng([seed, len(train)]).permutation(len(train))[:_FITTED_ROWS]
    solver = "covariance_eigh" if width <= _EXACT_WIDTH else "randomized"
    fitted = PCA(count, svd_solver=solver, random_state=seed).fit(Pixels().features(train.take(np.sort(rows_N))))
    identity = f"pca:{count} of the pixels of train {split_digest(train)[:12]}, seed {seed}"
    return Components(identity, fitted.mean_.astype(np.float32), fitted.components_.astype(np.float32))


def _count(argument: str, most: int) -> int:
    if not argument.isdecimal() or not 1 <= int(argument) <= most:
        raise RequestError(f"--features pca:{argument}: the number of components is 1 to {most:,}")
    return int(argument)
