"""The training step of a VAE: encoder and decoder together, on the negative ELBO.

Legend: B batch, Z latent dimensions, C, H, W image.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn

from gen_engine.train.config import TrainConfig
from gen_engine.train.models import Generator
from gen_engine.train.objectives.losses import VAE_LOSSES
from gen_engine.train.objectives.step import Buffers, Schedule, adam, autocast, backward, draw_normal, update


class VaeStep:
    """Encodes a batch, decodes a draw from the posterior, and updates both networks."""

    def __init__(self, config: TrainConfig, generator: Generator, auxiliary: nn.Module) -> None:
        self.config, self.generator, self.auxiliary = config, generator, auxiliary
        self.loss = VAE_LOSSES[config.loss](config.loss_options)
        self.networks = nn.ModuleList([generator, auxiliary])
        self.optimizers = {"both": adam(config, self.networks.parameters(), config.lr)}
        self.schedule = Schedule(config, self.optimizers)
        self.kept = nn.Module()
        self.warmth: Tensor | None = None
        if config.vae_options.beta_warmup:
            self.warmth = torch.zeros((), device=config.device)  # which a CUDA graph reads anew
        self.variant: Hashable = True

    def begin(self, number: int, total: int) -> None:
        """Set the learning rate, and how much of β there is."""
        self.schedule.set(number, total)
        if self.warmth is not None:
            steps = self.config.vae_options.beta_warmup * total / self.config.epochs
            self.warmth.fill_(min(1.0, number / steps))

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """The noise of the posterior's sample, float32 [count, Z], Z the dimensions of a code."""
        return (draw_normal(count, self.generator.code_dim, rng),)

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, *draws: Tensor) -> Tensor:
        """Float32 [4]: loss, reconstruction and KL in nats per image, and whether the step was bad."""
        buffers = Buffers(self.generator, self.auxiliary)
        _, loss, reconstruction, kl = self.bound(images_BCHW, labels_B, *draws)
        self.optimizers["both"].zero_grad(set_to_none=True)
        backward(loss)
        bad = update(self.optimizers["both"], loss, self.networks)
        buffers.restore_where(bad)
        return torch.stack([loss.detach(), reconstruction.detach(), kl.detach(), bad])

    def bound(self, images_BCHW: Tensor, labels_B: Tensor | None, noise_BZ: Tensor) -> tuple[Tensor, ...]:
        """Decoded draws from the posterior, and the bound's loss, reconstruction and KL."""
        with autocast(self.config):
            mean_BZ, log_variance_BZ = self.auxiliary(images_BCHW, labels_B)
            z_BZ = mean_BZ + noise_BZ * (0.5 * log_variance_BZ).exp()
            decoded_BCHW = self.generator.from_code(z_BZ, labels_B)
        return decoded_BCHW, *self.loss(decoded_BCHW, images_BCHW, mean_BZ, log_variance_BZ, self.warmth)

    def losses(self, values: list[float]) -> dict[str, float]:
        """`loss`, `reconstruction` and `kl`; `loss` is NaN where the update was left out."""
        loss, reconstruction, kl, bad = values
        return {"loss": float("nan") if bad else loss, "reconstruction": reconstruction, "kl": kl}
