"""Penalties on the gradient of a discriminator, all in float32: squares of small gradients vanish in bfloat16.

Legend: B batch, C, H, W image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]
"""images_BCHW to logits_B."""


def zero_centred(critic: Critic, images_BCHW: Tensor) -> Tensor:
    """Half the mean squared norm of the gradient at these images: R1 at real, R2 at generated ones.

    Mescheder, Geiger & Nowozin 2018, equation 9, without γ.
    """
    return 0.5 * _squared_norms(critic, images_BCHW).mean()


def one_centred(critic: Critic, real_BCHW: Tensor, fake_BCHW: Tensor, shares_B: Tensor) -> Tensor:
    """The mean of (‖gradient‖ − 1)² between real and generated images, at `shares_B` of the way to the real ones.

    Gulrajani et al. 2017, equation 3, without λ.
    """
    share_B111 = shares_B[:, None, None, None]
    squares_B = _squared_norms(critic, share_B111 * real_BCHW + (1.0 - share_B111) * fake_BCHW)
    return ((squares_B + 1e-12).sqrt() - 1.0).square().mean()  # the root has no derivative at 0


def _squared_norms(critic: Critic, images_BCHW: Tensor) -> Tensor:
    at_BCHW = images_BCHW.detach().float().requires_grad_(True)
    (gradient_BCHW,) = torch.autograd.grad(critic(at_BCHW).sum(), at_BCHW, create_graph=True)
    return gradient_BCHW.square().flatten(1).sum(dim=1)
