"""The training step of a GAN whose discriminator is differentially private; its generator then is too.

Xie et al. 2018: the discriminator alone sees real images, so DP-SGD on it is enough, and whatever is trained against it
is post-processing (Dwork & Roth 2014, proposition 2.1). A step is one of the discriminator, and one of the generator
every `discriminator_steps`: a discriminator held back by noise needs many (Bie, Kamath & Zhang 2023).

A sum of clipped gradients over a Poisson sample of the data changes by at most C in L2 norm when an image is added to
the data, and the noise is of that size. The gradients at generated images are computed from released weights and public
random numbers alone, so they need none; they are clipped all the same, since real images would else have less say.
What is logged comes from generated images: the loss at real ones would tell of them outside the noise.

Legend: B batch, Z latent dimensions, K classes, C, H, W image.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn
from torch.nn import functional

from gen_engine.train.config import TrainConfig
from gen_engine.train.models import Generator
from gen_engine.train.models.contract import Discriminator
from gen_engine.train.objectives.losses import GAN_LOSSES
from gen_engine.train.objectives.step import Buffers, Schedule, adam, backward, draw_normal, update
from gen_engine.train.privacy.dp_sgd import ClippedGradients
from gen_engine.train.privacy.sampled import SampledData


class PrivateGanStep:
    """The discriminator on a secret sample of the data and on generated images; every few steps the generator."""

    def __init__(
        self, config: TrainConfig, generator: Generator, discriminator: Discriminator, source: SampledData
    ) -> None:
        self.config, self.generator, self.discriminator, self.source = config, generator, discriminator, source
        self.loss = GAN_LOSSES[config.loss](config.loss_options)
        self.optimizers = {
            "generator": adam(config, generator.parameters(), config.lr),
            "discriminator": adam(config, discriminator.parameters(), config.lr_discriminator),
        }
        ledger = source.spending.ledger
        self.gradients = ClippedGradients(
            discriminator,
            self.optimizers["discriminator"],
            clip=ledger.plan.clip,
            noise_multiplier=ledger.noise_multiplier,
            expected=ledger.plan.batch,
        )
        self.schedule = Schedule(config, self.optimizers)
        self._last = Kept(source.digest, config.device)
        self.kept: nn.Module = self._last
        self.variant: Hashable = True
        """Whether the generator takes a step."""

    def begin(self, number: int, total: int) -> None:
        """Have the step counted on the disk, before it looks at the data, and set the learning rates."""
        self.source.spending.reserve(number + 1)
        self.schedule.set(number, total)
        self.variant = number % self.config.gan_options.discriminator_steps == 0

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Latents, float32 [count, Z], for the discriminator's step, and for the generator's if there is one."""
        return tuple(draw_normal(count, self.generator.latent_dim, rng) for _ in range(2 if self.variant else 1))

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, *draws: Tensor) -> Tensor:
        """Float32 [3]: generator's loss, mean logit of generated images, whether the step was bad.

        The images and labels of the run's own batches are blank; real ones come from the source.
        """
        buffers = Buffers(self.generator, self.discriminator)
        classes_B = self._classes(len(draws[0]), draws[0].device)
        logit, bad = self._update_discriminator(draws[0], classes_B)
        if self.variant:
            self.discriminator.requires_grad_(False)
            with self.gradients.paused():
                loss, bad = self._update_generator(draws[1], classes_B, bad)
            self.discriminator.requires_grad_(True)
            self._last.loss.copy_(loss)
        buffers.restore_where(bad)
        return torch.stack([self._last.loss, logit, bad])

    def losses(self, values: list[float]) -> dict[str, float]:
        """`g`, of the generator's last step, NaN where an update was left out; and `logit`, of generated images."""
        g, logit, bad = values
        return {"g": float("nan") if bad else g, "logit": logit}

    def _classes(self, count: int, device: torch.device) -> Tensor | None:
        """Every class in turn, int64 [count]: the labels of real images would tell of them."""
        classes = self.generator.num_classes
        return torch.arange(count, device=device) % classes if classes else None

    def _update_discriminator(self, z_BZ: Tensor, classes_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean logit of the generated images, and 1.0 where the update was left out."""
        real_BCHW, labels_B = self.source.draw()
        with torch.no_grad():
            fake_BCHW = self.generator(z_BZ, classes_B)
        self.gradients.clear()
        for part_BCHW, of_B in _parts(real_BCHW, labels_B, self.gradients.rows):
            self.gradients.add(self._loss_at_real(part_BCHW, of_B))
        logits = []
        for part_BCHW, of_B in _parts(fake_BCHW, classes_B, self.gradients.rows):
            loss, logits_B = self._loss_at_fake(part_BCHW, of_B)
            self.gradients.add(loss)
            logits.append(logits_B.detach())
        self.gradients.release()
        logit = torch.cat(logits).mean()
        return logit, update(self.optimizers["discriminator"], logit, self.discriminator)

    def _loss_at_real(self, images_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """The mean of a loss of each image; what the loss has for generated ones is constant."""
        logits_B, classes_BK = self.discriminator.judge(images_BCHW, labels_B)
        loss = self.loss.discriminator(logits_B, logits_B.new_zeros(1))
        if classes_BK is not None and labels_B is not None:
            loss = loss + self.config.gan_options.class_loss * functional.cross_entropy(classes_BK, labels_B)
        return loss

    def _loss_at_fake(self, images_BCHW: Tensor, labels_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same for generated images, and their logits."""
        logits_B, classes_BK = self.discriminator.judge(images_BCHW, labels_B)
        loss = self.loss.discriminator(logits_B.new_zeros(1), logits_B)
        if classes_BK is not None:  # generated images teach nothing about classes; all weights have a gradient, though
            loss = loss + 0.0 * classes_BK.sum()
        return loss, logits_B

    def _update_generator(self, z_BZ: Tensor, classes_B: Tensor | None, bad: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's loss, and 1.0 where an update was left out."""
        made_BCHW = self.generator(z_BZ, classes_B)
        logits_B, classes_BK = self.discriminator.judge(made_BCHW, classes_B)
        loss = self.loss.generator(logits_B)
        if classes_BK is not None and classes_B is not None:
            loss = loss + self.config.gan_options.class_loss * functional.cross_entropy(classes_BK, classes_B)
        self.optimizers["generator"].zero_grad(set_to_none=True)
        backward(loss)
        return loss.detach(), update(self.optimizers["generator"], loss, self.generator, bad)


class Kept(nn.Module):
    """Which ledger a run spends from, so that a resumed run notices another, and the generator's last loss."""

    release: Tensor
    loss: Tensor

    def __init__(self, identity: str, device: str) -> None:
        super().__init__()
        self.register_buffer("release", torch.tensor(list(bytes.fromhex(identity)), dtype=torch.uint8))
        self.register_buffer("loss", torch.zeros((), device=device))


def _parts(images_BCHW: Tensor, labels_B: Tensor | None, rows: int) -> list[tuple[Tensor, Tensor | None]]:
    """Images and their labels, at most `rows` at once; none of none."""
    starts = range(0, len(images_BCHW), rows)
    return [(images_BCHW[at : at + rows], None if labels_B is None else labels_B[at : at + rows]) for at in starts]
