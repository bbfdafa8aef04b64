"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020), and its adaptive probability.

Real and generated images go through the same random transforms, and gradients pass through them to the generator, which
therefore does not learn to make transformed images. Transforms are products with small matrices: deterministic on every
device, and differentiable twice, as penalties need.

Legend: B batch, U uniform numbers per image, C, H, W image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_engine.train.options import GanOptions
from gen_engine.train.parallel import collectives

UNIFORMS = 10
"""Uniform numbers per image: a gate for each of the three transforms, and seven amounts."""

SHIFT, HOLE = 1 / 8, 1 / 2
"""Largest translation and side of the hole, as shares of the image's side; the values of the paper."""

ADAPT_IMAGES = 500_000
"""Images after which an adaptive probability can have gone from 0 to 1 (Karras et al. 2020)."""

ADAPT_DECAY = 0.99
"""Decay per step of the mean sign of the real images' logits."""


class DiffAugment(nn.Module):
    """`forward(images_BCHW, uniforms_BU) -> images_BCHW`; the probability and what it adapts to are buffers."""

    probability: Tensor
    sign: Tensor

    def __init__(self, options: GanOptions) -> None:
        super().__init__()
        self.transforms = options.transforms()
        self.target = options.diffaugment_target
        self.register_buffer("probability", torch.tensor(options.diffaugment_probability))
        self.register_buffer("sign", torch.tensor(0.0))

    def forward(self, images_BCHW: Tensor, uniforms_BU: Tensor) -> Tensor:
        """Transform each image with the buffer's probability per transform; identity when no transform is named."""
        gates_B = uniforms_BU[:, :3, None, None, None] < self.probability
        steps = {"colour": _colour, "translation": _translation, "cutout": _cutout}
        for gate, (name, step) in enumerate(steps.items()):
            if name in self.transforms:
                changed_BCHW = step(images_BCHW, uniforms_BU[:, 3:])
                images_BCHW = torch.where(gates_B[:, gate], changed_BCHW, images_BCHW)
        return images_BCHW

    def adapt(self, real_B: Tensor) -> None:
        """Move the probability by the mean sign of these logits of real images, without waiting for the device.

        A discriminator that has learnt its images by heart is certain of all of them.
        """
        if self.target and self.transforms:
            self.sign.lerp_(collectives.mean(real_B.detach().sign().mean()), 1.0 - ADAPT_DECAY)
            amount = len(real_B) * collectives.size() / ADAPT_IMAGES
            self.probability.add_(amount * (self.sign - self.target).sign()).clamp_(0.0, 1.0)


def _colour(images_BCHW: Tensor, uniforms_BU: Tensor) -> Tensor:
    """Brightness by up to ±0.5, saturation by 0 to 2, contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = (uniforms_BU[:, at, None, None, None] for at in range(3))
    images_BCHW = images_BCHW + (brightness - 0.5)
    if images_BCHW.shape[1] > 1:
        grey_B1HW = images_BCHW.mean(dim=1, keepdim=True)
        images_BCHW = (images_BCHW - grey_B1HW) * (2.0 * saturation) + grey_B1HW
    mean_B111 = images_BCHW.mean(dim=(1, 2, 3), keepdim=True)
    return (images_BCHW - mean_B111) * (contrast + 0.5) + mean_B111


def _translation(images_BCHW: Tensor, uniforms_BU: Tensor) -> Tensor:
    """Whole pixels, up to an eighth of the side; what moves in repeats the border."""
    rows_BHH = _shifts(uniforms_BU[:, 3], images_BCHW.shape[2], images_BCHW.dtype)
    columns_BWW = _shifts(uniforms_BU[:, 4], images_BCHW.shape[3], images_BCHW.dtype)
    return rows_BHH[:, None] @ images_BCHW @ columns_BWW[:, None].transpose(-1, -2)


def _shifts(uniforms_B: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """Matrices that shift a vector of `side` values, [B, side, side]."""
    most = round(side * SHIFT)
    shift_B = (uniforms_B * (2 * most + 1)).floor().clamp(max=2 * most) - most
    at_S = torch.arange(side, device=uniforms_B.device)
    source_BS = (at_S[None] + shift_B[:, None]).clamp(0, side - 1)
    return (source_BS[:, :, None] == at_S).to(dtype)


def _cutout(images_BCHW: Tensor, uniforms_BU: Tensor) -> Tensor:
    """Set a square to mid-grey whose centre is anywhere in the image."""
    inside = []
    for axis, at in ((2, 5), (3, 6)):
        side = images_BCHW.shape[axis]
        centre_B1 = (uniforms_BU[:, at, None] * side).floor()
        at_S = torch.arange(side, device=images_BCHW.device)
        first_B1 = centre_B1 - round(side * HOLE) // 2
        inside.append((at_S >= first_B1) & (at_S < first_B1 + round(side * HOLE)))
    hole_B1HW = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return images_BCHW.masked_fill(hole_B1HW, 0.0)
