"""The training step of a GAN: discriminator, then generator, on one batch.

Legend: B batch, Z latent dimensions, C, H, W image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_engine.train.config import TrainConfig
from gen_engine.train.models import Generator
from gen_engine.train.objectives.losses import GAN_LOSSES
from gen_engine.train.objectives.step import Buffers, adam, autocast, draw_normal, update


class GanStep:
    """Discriminator, then generator, on one batch; the fake images of the first serve the second too.

    Fake images take the labels of the real batch, so both halves have the same class proportions, as projection
    discriminators assume.
    """

    def __init__(self, config: TrainConfig, generator: Generator, auxiliary: nn.Module) -> None:
        self.config, self.generator, self.auxiliary = config, generator, auxiliary
        self.loss = GAN_LOSSES[config.loss](config.loss_options)
        self.optimizers = {
            "generator": adam(config, generator.parameters(), config.lr),
            "discriminator": adam(config, auxiliary.parameters(), config.lr_discriminator),
        }

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """The latents, float32 [count, Z]."""
        return (draw_normal(count, self.generator.latent_dim, rng),)

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, *draws: Tensor) -> Tensor:
        """Float32 [3]: the losses of discriminator and generator, and whether the step was bad."""
        (z_BZ,) = draws
        buffers = Buffers(self.generator, self.auxiliary)
        with autocast(self.config):
            fake_BCHW = self.generator(z_BZ, labels_B)
            both = torch.cat([images_BCHW, fake_BCHW.detach()])
            labels = None if labels_B is None else torch.cat([labels_B, labels_B])
            real_B, fake_B = self.auxiliary(both, labels).chunk(2)
        d_loss = self.loss.discriminator(real_B, fake_B)
        bad = update(self.optimizers["discriminator"], d_loss, self.auxiliary)
        self.auxiliary.requires_grad_(False)
        with autocast(self.config):
            fake_B = self.auxiliary(fake_BCHW, labels_B)
        g_loss = self.loss.generator(fake_B)
        bad = update(self.optimizers["generator"], g_loss, self.generator, bad)
        self.auxiliary.requires_grad_(True)
        buffers.restore_where(bad)
        return torch.stack([d_loss.detach(), g_loss.detach(), bad])

    def losses(self, values: list[float]) -> dict[str, float]:
        """`d` and `g`; `g` is NaN where an update was left out."""
        d, g, bad = values
        return {"d": d, "g": float("nan") if bad else g}
