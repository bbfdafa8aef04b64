"""The training step of a VAE whose decoder is judged by a discriminator, too (Larsen et al. 2016).

The bound alone makes images blurred: where the code leaves details open, their mean has the least squared error. A
discriminator tells such means from images. As in Esser et al. 2021 it adds to the error in pixels, and does not replace
it; the discriminator sees decoded codes of real images, whose labels they have.

Legend: B batch, Z dimensions of a code, C, H, W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_engine.train.config import TrainConfig
from gen_engine.train.models import Generator
from gen_engine.train.models.res_vae import Critics
from gen_engine.train.objectives.losses import NonSaturating
from gen_engine.train.objectives.step import Buffers, Schedule, adam, autocast, backward, update
from gen_engine.train.objectives.vae import VaeStep


class VaeGanStep(VaeStep):
    """The discriminator on images and decoded images, then encoder and decoder on the bound and its verdict."""

    def __init__(self, config: TrainConfig, generator: Generator, auxiliary: Critics) -> None:
        super().__init__(config, generator, auxiliary.encoder)
        self.both, self.discriminator = auxiliary, auxiliary.discriminator
        self.judged = NonSaturating()
        self.optimizers["discriminator"] = adam(config, self.discriminator.parameters(), config.lr_discriminator)
        self.schedule = Schedule(config, self.optimizers)

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, *draws: Tensor) -> Tensor:
        """Float32 [6]: loss, reconstruction and KL in nats per image, the losses of both players, and the mark."""
        buffers = Buffers(self.generator, self.both)
        decoded_BCHW, loss, reconstruction, kl = self.bound(images_BCHW, labels_B, *draws)
        d_loss = self.judged.discriminator(*self._logits(images_BCHW, decoded_BCHW.detach(), labels_B))
        bad = self._update("discriminator", d_loss, None)
        self.discriminator.requires_grad_(False)
        with autocast(self.config):
            verdict_B = self.discriminator(decoded_BCHW, labels_B)
        g_loss = self.judged.generator(verdict_B)
        loss = loss + self.config.vae_options.adversarial * g_loss
        bad = self._update("both", loss, bad)
        self.discriminator.requires_grad_(True)
        buffers.restore_where(bad)
        return torch.stack([*(each.detach() for each in (loss, reconstruction, kl, d_loss, g_loss)), bad])

    def losses(self, values: list[float]) -> dict[str, float]:
        """Those of a VAE, and `d` and `g`; `loss` is NaN where an update was left out."""
        *bound, d, g, bad = values
        return super().losses([*bound, bad]) | {"d": d, "g": g}

    def _logits(self, images_BCHW: Tensor, decoded_BCHW: Tensor, labels_B: Tensor | None) -> tuple[Tensor, ...]:
        """Of images and of decoded images, in one pass."""
        labels = None if labels_B is None else torch.cat([labels_B, labels_B])
        with autocast(self.config):
            logits_B: Tensor = self.discriminator(torch.cat([images_BCHW, decoded_BCHW]), labels)
        return logits_B.chunk(2)

    def _update(self, name: str, loss: Tensor, bad: Tensor | None) -> Tensor:
        optimizer, network = self.optimizers[name], self.discriminator if name == "discriminator" else self.networks
        optimizer.zero_grad(set_to_none=True)
        backward(loss)
        return update(optimizer, loss, network, bad)
