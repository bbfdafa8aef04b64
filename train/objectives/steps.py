"""One optimisation step of each kind of model, and the guard that keeps bad gradients out of the weights.

Legend: B batch, Z latent dimensions, C, H, W image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from gen_engine.train.config import TrainConfig
from gen_engine.train.models import Generator, family_of
from gen_engine.train.objectives.losses import GAN_LOSSES, VAE_LOSSES


class Step(Protocol):
    """A training step with the optimisers it drives."""

    optimizers: dict[str, torch.optim.Optimizer]

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Take one step; the losses by name, not finite where an update was left out."""
        ...

    def reset(self) -> None:
        """Forget what is kept from step to step: the optimisers' state was replaced."""
        ...


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

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Losses `d` and `g`."""
        z_BZ = draw_normal(len(images_BCHW), self.generator.latent_dim, rng, images_BCHW.device)
        with restored_if_bad(self.generator, self.auxiliary) as bad:
            with self._autocast():
                fake_BCHW = self.generator(z_BZ, labels_B)
                both = torch.cat([images_BCHW, fake_BCHW.detach()])
                labels = None if labels_B is None else torch.cat([labels_B, labels_B])
                real_B, fake_B = self.auxiliary(both, labels).chunk(2)
            d_loss = self.loss.discriminator(real_B, fake_B)
            ok = update(self.optimizers["discriminator"], d_loss, self.auxiliary)
            g_loss = d_loss.new_tensor(float("nan"))
            if ok:
                self.auxiliary.requires_grad_(False)
                with self._autocast():
                    fake_B = self.auxiliary(fake_BCHW, labels_B)
                g_loss = self.loss.generator(fake_B)
                ok = update(self.optimizers["generator"], g_loss, self.generator)
                self.auxiliary.requires_grad_(True)
            bad(not ok)
        return {"d": d_loss.item(), "g": g_loss.item() if ok else float("nan")}

    def reset(self) -> None:
        """Nothing is kept."""

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, z_BZ: Tensor) -> Tensor:
        """The same step, and the processor waits for nothing: float32 [3], `d`, `g` and whether it was bad."""
        buffers = Buffers(self.generator, self.auxiliary)
        with self._autocast():
            fake_BCHW = self.generator(z_BZ, labels_B)
            both = torch.cat([images_BCHW, fake_BCHW.detach()])
            labels = None if labels_B is None else torch.cat([labels_B, labels_B])
            real_B, fake_B = self.auxiliary(both, labels).chunk(2)
        d_loss = self.loss.discriminator(real_B, fake_B)
        bad = update_unless_bad(self.optimizers["discriminator"], d_loss, self.auxiliary)
        self.auxiliary.requires_grad_(False)
        with self._autocast():
            fake_B = self.auxiliary(fake_BCHW, labels_B)
        g_loss = self.loss.generator(fake_B)
        bad = update_unless_bad(self.optimizers["generator"], g_loss, self.generator, bad)
        self.auxiliary.requires_grad_(True)
        buffers.restore_where(bad)
        return torch.stack([d_loss.detach(), g_loss.detach(), bad])

    def losses(self, values: list[float]) -> dict[str, float]:
        """What `on_device` computed, as a call of the step returns it."""
        d, g, bad = values
        return {"d": d, "g": float("nan") if bad else g}

    def _autocast(self) -> torch.autocast:
        return autocast(self.config)


class VaeStep:
    """Encoder and decoder together, on the negative ELBO."""

    def __init__(self, config: TrainConfig, generator: Generator, auxiliary: nn.Module) -> None:
        self.config, self.generator, self.auxiliary = config, generator, auxiliary
        self.loss = VAE_LOSSES[config.loss](config.loss_options)
        self.networks = nn.ModuleList([generator, auxiliary])
        self.optimizers = {"both": adam(config, self.networks.parameters(), config.lr)}

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """`loss`, `reconstruction` and `kl`, nats an image."""
        noise_BZ = draw_normal(len(images_BCHW), self.generator.latent_dim, rng, images_BCHW.device)
        with restored_if_bad(self.generator, self.auxiliary) as bad:
            with autocast(self.config):
                mean_BZ, log_variance_BZ = self.auxiliary(images_BCHW, labels_B)
                z_BZ = mean_BZ + noise_BZ * (0.5 * log_variance_BZ).exp()
                decoded_BCHW = self.generator(z_BZ, labels_B)
            loss, reconstruction, kl = self.loss(decoded_BCHW, images_BCHW, mean_BZ, log_variance_BZ)
            ok = update(self.optimizers["both"], loss, self.networks)
            bad(not ok)
        return {
            "loss": loss.item() if ok else float("nan"),
            "reconstruction": reconstruction.item(),
            "kl": kl.item(),
        }

    def reset(self) -> None:
        """Nothing is kept."""

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, noise_BZ: Tensor) -> Tensor:
        """The same step, and the processor waits for nothing: float32 [4], the losses and whether it was bad."""
        buffers = Buffers(self.generator, self.auxiliary)
        with autocast(self.config):
            mean_BZ, log_variance_BZ = self.auxiliary(images_BCHW, labels_B)
            z_BZ = mean_BZ + noise_BZ * (0.5 * log_variance_BZ).exp()
            decoded_BCHW = self.generator(z_BZ, labels_B)
        loss, reconstruction, kl = self.loss(decoded_BCHW, images_BCHW, mean_BZ, log_variance_BZ)
        bad = update_unless_bad(self.optimizers["both"], loss, self.networks)
        buffers.restore_where(bad)
        return torch.stack([loss.detach(), reconstruction.detach(), kl.detach(), bad])

    def losses(self, values: list[float]) -> dict[str, float]:
        """What `on_device` computed, as a call of the step returns it."""
        loss, reconstruction, kl, bad = values
        return {"loss": float("nan") if bad else loss, "reconstruction": reconstruction, "kl": kl}


def make_step(config: TrainConfig, generator: Generator, auxiliary: nn.Module) -> GanStep | VaeStep:
    """The step that this family trains with."""
    if family_of(config.model.family).kind == "gan":
        return GanStep(config, generator, auxiliary)
    return VaeStep(config, generator, auxiliary)


def adam(config: TrainConfig, parameters: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2014), fused; on a GPU such that a CUDA graph can hold it."""
    betas = (config.adam_beta1, config.adam_beta2)
    return torch.optim.Adam(parameters, lr, betas, fused=True, capturable=config.device == "cuda")


def autocast(config: TrainConfig) -> torch.autocast:
    """bfloat16 autocast on the run's device, or none."""
    return torch.autocast(config.device, torch.bfloat16, enabled=config.precision == "bf16")


def draw_normal(count: int, dims: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """float32 [count, dims], drawn on the CPU so that a run has one random stream on every device."""
    return torch.randn(count, dims, generator=rng).to(device)


def update(optimizer: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> bool:
    """Backward and step; no step, and False, when the loss or a gradient is not finite."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not bool(torch.isfinite(loss.detach() + norm)):
        return False
    optimizer.step()
    return True


def update_unless_bad(
    optimizer: torch.optim.Optimizer, loss: Tensor, network: nn.Module, bad: Tensor | None = None
) -> Tensor:
    """Backward and step, which the GPU leaves out when the loss or a gradient is not finite, or it is `bad` already.

    Returns 1.0 where it was left out and 0.0 where not, float32 []. The processor knows neither, and so need not wait.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    now = torch.isfinite(loss.detach() + norm).logical_not().float()
    bad = now if bad is None else torch.maximum(now, bad)
    optimizer.found_inf = bad  # type: ignore[attr-defined]  # what GradScaler sets, and fused optimisers heed
    optimizer.step()
    return bad


class Buffers:
    """Buffers (batch statistics, singular vectors) as they are now, to be had again if the step is bad."""

    def __init__(self, *networks: nn.Module) -> None:
        self._buffers = [buffer for network in networks for buffer in network.buffers()]
        self._saved = [buffer.clone() for buffer in self._buffers]

    def restore_where(self, bad: Tensor) -> None:
        """Undo what happened to them if `bad` is not 0, without a transfer to the processor."""
        for buffer, before in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(torch.where(bad > 0, before, buffer))


@contextmanager
def restored_if_bad(*networks: nn.Module) -> Iterator[Callable[[bool], None]]:
    """Buffers (batch statistics, singular vectors) as they were, if the step inside reports itself bad.

    A forward pass updates them before anyone can know that its numbers are not finite.
    """
    buffers = [buffer for network in networks for buffer in network.buffers()]
    saved = [buffer.clone() for buffer in buffers]
    reports: list[bool] = []
    yield reports.append
    if any(reports):
        for buffer, before in zip(buffers, saved, strict=True):
            buffer.copy_(before)
