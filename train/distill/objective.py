"""What a student is trained on: the distance of its images from the teacher's, at several scales.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SCALES = 3
"""Full size, half and a quarter: an error that covers many pixels counts at each of them."""

SMOOTH = 1e-3
"""Of the Charbonnier penalty √(x² + ε²): L1, but smooth at 0."""


def image_distance(made_BCHW: Tensor, wanted_BCHW: Tensor) -> Tensor:
    """The mean Charbonnier penalty (Charbonnier et al. 1994) of the differences, averaged over the scales.

    Images are float32 in [-1, 1]. Pixels whose error is small weigh as much as in L1, so edges stay sharper than under
    squared errors.
    """
    difference_BCHW = made_BCHW - wanted_BCHW
    terms = [_penalty(difference_BCHW)]
    for _ in range(SCALES - 1):
        if min(difference_BCHW.shape[2:]) < 2:
            break
        difference_BCHW = functional.avg_pool2d(difference_BCHW, 2)
        terms.append(_penalty(difference_BCHW))
    return torch.stack(terms).mean()


def _penalty(x_BCHW: Tensor) -> Tensor:
    return torch.sqrt(x_BCHW.square() + SMOOTH**2).mean()
