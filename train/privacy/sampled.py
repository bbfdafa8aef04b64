"""The real images of a private GAN, and the one function that reads them: each with its own chance, in every step.

Legend: N images, B batch, C channels, H height, W width.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen_engine.engine.base.levels import from_levels
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.device import home_of
from gen_engine.train.privacy.ledger import Spending


@dataclass(frozen=True, kw_only=True)
class SampledData:
    """The data as the discriminator's step sees them."""

    images_NCHW: Tensor
    """uint8."""

    labels_N: Tensor | None
    """int64; None for an unconditional model."""

    spending: Spending
    device: str
    """Where images are drawn to."""

    @classmethod
    def of(cls, config: TrainConfig, data: ImageData, spending: Spending) -> SampledData:
        """The data of a run."""
        home = home_of(data.images_NHWC.nbytes, config.device)
        labels_N = None
        if config.model.num_classes and data.labels is not None:
            labels_N = torch.from_numpy(data.labels.copy()).to(home)
        images_NCHW = torch.from_numpy(data.images_NHWC.transpose(0, 3, 1, 2).copy()).to(home)
        return cls(images_NCHW=images_NCHW, labels_N=labels_N, spending=spending, device=config.device)

    @property
    def digest(self) -> str:
        """Which ledger a checkpoint belongs to: 64 hexadecimal digits."""
        return self.spending.ledger.identity

    def draw(self) -> tuple[Tensor, Tensor | None]:
        """A Poisson sample: images, float32 [any number, C, H, W] in [-1, 1], and their labels, int64."""
        plan = self.spending.ledger.plan
        chosen = torch.from_numpy(poisson_sample(plan.images, plan.batch)).to(self.images_NCHW.device)
        images_BCHW = from_levels(self.images_NCHW[chosen].to(self.device).float())
        return images_BCHW, None if self.labels_N is None else self.labels_N[chosen].to(self.device)


def poisson_sample(images: int, expected: int) -> NDArray[np.int64]:
    """Indices below `images`, in order, each there with probability expected/images, by the operating system.

    Accounting takes for granted that nobody knows who was drawn, so no seed makes the same draw again. The probability
    is rounded down, by less than 2^-64.
    """
    below = (expected << 64) // images
    drawn_N = np.frombuffer(os.urandom(8 * images), "<u8")
    return np.flatnonzero(drawn_N < np.uint64(below)) if below < 2**64 else np.arange(images)
