"""The training step of a GAN: the discriminator, one or more times, then the generator, on one batch.

Legend: B batch, Z latent dimensions, U uniform numbers per image, K classes, C, H, W image.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gen_engine.train.config import TrainConfig
from gen_engine.train.models import Generator
from gen_engine.train.models.contract import Discriminator
from gen_engine.train.objectives.diffaugment import UNIFORMS, DiffAugment
from gen_engine.train.objectives.losses import GAN_LOSSES
from gen_engine.train.objectives.penalties import one_centred, zero_centred
from gen_engine.train.objectives.step import Buffers, Schedule, adam, autocast, backward, draw_normal, update


@dataclass(frozen=True)
class Batch:
    """What one update looks at."""

    images_BCHW: Tensor
    labels_B: Tensor | None
    z_BZ: Tensor
    uniforms_BU: Tensor | None
    """For augmentation: [2B, 10], real images first; None without augmentation."""

    shares_B: Tensor | None
    """Where between real and generated images a penalty is taken; None where there is none."""

    def parts(self, count: int) -> list[Batch]:
        """Equal parts of it, in order."""
        if count == 1:
            return [self]
        uniforms = None
        if self.uniforms_BU is not None:
            real, fake = (half.chunk(count) for half in self.uniforms_BU.chunk(2))
            uniforms = [torch.cat(pair) for pair in zip(real, fake, strict=True)]
        columns = (self.images_BCHW, self.labels_B, self.z_BZ, uniforms, self.shares_B)
        cut = [[None] * count if c is None else c.chunk(count) if isinstance(c, Tensor) else c for c in columns]
        return [Batch(*row) for row in zip(*cut, strict=True)]


class GanStep:
    """Discriminator, then generator, on one batch; the fake images of the last serve the generator too.

    Fake images take the labels of the real batch, so both halves have the same class proportions, as projection
    discriminators assume.
    """

    def __init__(self, config: TrainConfig, generator: Generator, auxiliary: Discriminator) -> None:
        self.config, self.generator, self.auxiliary = config, generator, auxiliary
        self.options = config.gan_options
        self.loss = GAN_LOSSES[config.loss](config.loss_options)
        self.augment = DiffAugment(self.options).to(config.device)
        self.kept: nn.Module = self.augment if self.options.transforms() else nn.Module()
        self.optimizers = {
            "generator": adam(config, generator.parameters(), config.lr),
            "discriminator": adam(config, auxiliary.parameters(), config.lr_discriminator),
        }
        self.schedule = Schedule(config, self.optimizers)
        self.variant: Hashable = True

    def begin(self, number: int, total: int) -> None:
        """Set learning rates; `variant` is whether this step has the penalties."""
        self.schedule.set(number, total)
        penalties = self.options.r1 or self.options.r2 or self.options.gradient_penalty
        self.variant = bool(penalties) and number % self.options.penalty_every == 0

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Latents, float32 [count, Z]; then uniform numbers, if any are used; for each update."""
        drawn = []
        for _ in range(self.options.discriminator_steps):
            drawn.append(draw_normal(count, self.generator.latent_dim, rng))
            if self.options.transforms():
                drawn.append(torch.rand(2 * count, UNIFORMS, generator=rng))
            if self.options.gradient_penalty:
                drawn.append(torch.rand(count, generator=rng))
        if self.options.transforms():
            drawn.append(torch.rand(2 * count, UNIFORMS, generator=rng))
        return tuple(drawn)

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, *draws: Tensor) -> Tensor:
        """Float32 [3]: the losses of discriminator and generator, and whether the step was bad."""
        batches = self._batches(images_BCHW, labels_B, list(draws))
        buffers = Buffers(self.generator, self.auxiliary, self.augment)
        bad = images_BCHW.new_zeros(())
        for batch in batches[:-1]:
            d_loss, bad, fake_BCHW = self._update_discriminator(batch, bad)
        self.auxiliary.requires_grad_(False)
        g_loss, bad = self._update_generator(batches[-1], fake_BCHW, bad)
        self.auxiliary.requires_grad_(True)
        buffers.restore_where(bad)
        return torch.stack([d_loss, g_loss, bad])

    def losses(self, values: list[float]) -> dict[str, float]:
        """`d` and `g`; `g` is NaN where an update was left out."""
        d, g, bad = values
        return {"d": d, "g": float("nan") if bad else g}

    def _batches(self, images_BCHW: Tensor, labels_B: Tensor | None, draws: list[Tensor]) -> list[Batch]:
        """One for each update of the discriminator, and one for the generator, which keeps the last one's latents."""
        augmented, shared = bool(self.options.transforms()), bool(self.options.gradient_penalty)
        batches = []
        for _ in range(self.options.discriminator_steps):
            z_BZ = draws.pop(0)
            uniforms_BU = draws.pop(0) if augmented else None
            batches.append(Batch(images_BCHW, labels_B, z_BZ, uniforms_BU, draws.pop(0) if shared else None))
        return [*batches, Batch(images_BCHW, labels_B, z_BZ, draws.pop(0) if augmented else None, None)]

    def _update_discriminator(self, batch: Batch, bad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The loss, whether it or an update before was bad, and the generated images if the batch was not cut."""
        optimizer, parts = self.optimizers["discriminator"], batch.parts(self.config.accumulate)
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for part in parts:
            with autocast(self.config):
                fake_BCHW = self.generator(part.z_BZ, part.labels_B)
            loss = self._discriminator_loss(part, fake_BCHW.detach()) / len(parts)
            backward(loss)
            losses.append(loss.detach())
        total = torch.stack(losses).sum()
        return total, update(optimizer, total, self.auxiliary, bad), fake_BCHW if len(parts) == 1 else None

    def _discriminator_loss(self, part: Batch, fake_BCHW: Tensor) -> Tensor:
        both_BCHW = self._augmented(part, torch.cat([part.images_BCHW, fake_BCHW]))
        labels_B = part.labels_B
        labels = None if labels_B is None else torch.cat([labels_B, labels_B])
        with autocast(self.config):
            logits_B, classes_BK = self.auxiliary.judge(both_BCHW, labels)
        real_B, fake_B = logits_B.chunk(2)
        loss = self.loss.discriminator(real_B, fake_B)
        if classes_BK is not None and labels_B is not None:  # generated images teach nothing about classes yet
            loss = loss + self.options.class_loss * functional.cross_entropy(classes_BK.chunk(2)[0], labels_B)
        self.augment.adapt(real_B)
        return loss + self._penalty(part, *both_BCHW.chunk(2)) if self.variant else loss

    def _penalty(self, part: Batch, real_BCHW: Tensor, fake_BCHW: Tensor) -> Tensor:
        options = self.options

        def critic(images_BCHW: Tensor) -> Tensor:
            logits_B: Tensor = self.auxiliary(images_BCHW, part.labels_B)
            return logits_B

        penalty = real_BCHW.new_zeros(())
        if options.r1:
            penalty = penalty + options.r1 * zero_centred(critic, real_BCHW)
        if options.r2:
            penalty = penalty + options.r2 * zero_centred(critic, fake_BCHW)
        if part.shares_B is not None:
            penalty = penalty + options.gradient_penalty * one_centred(critic, real_BCHW, fake_BCHW, part.shares_B)
        return penalty * options.penalty_every

    def _update_generator(self, batch: Batch, fake_BCHW: Tensor | None, bad: Tensor) -> tuple[Tensor, Tensor]:
        optimizer, parts = self.optimizers["generator"], batch.parts(self.config.accumulate)
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for part in parts:
            with autocast(self.config):
                made_BCHW = self.generator(part.z_BZ, part.labels_B) if fake_BCHW is None else fake_BCHW
            loss = self._generator_loss(part, made_BCHW) / len(parts)
            backward(loss)
            losses.append(loss.detach())
        total = torch.stack(losses).sum()
        return total, update(optimizer, total, self.generator, bad)

    def _generator_loss(self, part: Batch, fake_BCHW: Tensor) -> Tensor:
        labels, count = part.labels_B, len(fake_BCHW)
        seen_BCHW = fake_BCHW
        if self.loss.paired:
            seen_BCHW = torch.cat([part.images_BCHW, fake_BCHW])
            labels = None if labels is None else torch.cat([labels, labels])
        with autocast(self.config):
            logits_B, classes_BK = self.auxiliary.judge(self._augmented(part, seen_BCHW), labels)
        real_B = logits_B[:-count] if self.loss.paired else None
        loss = self.loss.generator(logits_B[-count:], real_B)
        if classes_BK is not None and part.labels_B is not None:
            loss = loss + self.options.class_loss * functional.cross_entropy(classes_BK[-count:], part.labels_B)
        return loss

    def _augmented(self, part: Batch, images_BCHW: Tensor) -> Tensor:
        """Augment real and generated images, or generated ones alone."""
        if part.uniforms_BU is None:
            return images_BCHW
        augmented_BCHW: Tensor = self.augment(images_BCHW, part.uniforms_BU[-len(images_BCHW) :])
        return augmented_BCHW
