"""Random features of an image whose inner product is a kernel, and whose norm is at most 1 whatever the image.

Rahimi & Recht 2007: with frequencies ω drawn from a density p, (cos ωᵀx, sin ωᵀx) over √F frequencies has the inner
product E_p[cos ωᵀ(x − y)] in expectation, and the norm 1 exactly, since cos² + sin² = 1. The frequencies here are white
noise, under a Gaussian window at a random place or under none: a mixture of kernels that compare places of images with
kernels that compare whole ones, each with several bandwidths. They depend on the image's shape and their number alone,
never on the data, so that they cost no privacy.

Legend: B batch, P = C·H·W pixels, F frequencies, E = 2F + 1 features, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KINDS = 1
"""Version of how frequencies are drawn: means of another one are of other features."""

COUNT_FEATURE = 0.25
"""The last feature of every image: its mean over a class is this times the class's share of the images."""

WINDOWS = (0.0, 4.0, 8.0)
"""Standard deviations of the windows, in pixels of a 28×28 image; 0 is none."""

SCALES = (1.0, 2.0, 2.8)
"""Norms of the frequencies, for values in [-1, 1]; fixed, since a median of distances would read the data."""


@dataclass(frozen=True)
class Features:
    """The map from images to features.

    Args:
        frequencies_PF: float32 [C·H·W, F].
    """

    frequencies_PF: Tensor

    @property
    def size(self) -> int:
        """Features of an image, E."""
        return 2 * self.frequencies_PF.shape[1] + 1

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Float32 [B, E], each row of norm 1 up to rounding, for images of any values."""
        # Of values from 0, since small phases lose less where products are rounded; the kernel is that of differences.
        phase_BF = ((images_BCHW + 1.0).flatten(1) @ self.frequencies_PF).float()
        share = math.sqrt((1.0 - COUNT_FEATURE**2) / phase_BF.shape[1])
        constant_B1 = phase_BF.new_full((len(phase_BF), 1), COUNT_FEATURE)
        return torch.cat([phase_BF.cos() * share, phase_BF.sin() * share, constant_B1], dim=1)


def draw_features(image_shape: tuple[int, int, int], count: int) -> Features:
    """The features with `count` frequencies for images of (C, H, W): the same on every machine and in every run."""
    rng = np.random.Generator(np.random.PCG64([KINDS, count, *image_shape]))
    chosen = [_frequency(image_shape, rng).ravel() for _ in range(count)]
    return Features(torch.from_numpy(np.stack(chosen, axis=1).astype(np.float32)))


def _frequency(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """One frequency, [C, H, W]."""
    _, height, width = shape
    noise_CHW = rng.standard_normal(shape)
    window, scale = (options[rng.integers(len(options))] for options in (WINDOWS, SCALES))
    y, x = rng.uniform(0, height - 1), rng.uniform(0, width - 1)
    if window:
        down, right = np.arange(height) - y, np.arange(width) - x
        noise_CHW *= np.exp(-(down[:, None] ** 2 + right[None] ** 2) / (2 * (window * height / 28) ** 2))
    return noise_CHW * (scale / np.linalg.norm(noise_CHW))
