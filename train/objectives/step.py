"""What a training step is, and the guard that keeps bad gradients out of the weights.

Legend: B batch, Z latent dimensions, C, H, W image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from gen_engine.train.config import TrainConfig


class Step(Protocol):
    """A training step with the optimisers it drives. All that is random in it is drawn first, on the CPU."""

    optimizers: dict[str, torch.optim.Optimizer]

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """The random numbers of a step on `count` images, on the CPU: a run has one random stream on every device."""
        ...

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, *draws: Tensor) -> Tensor:
        """Take the step without waiting for the device: float32, the values that `losses` reads."""
        ...

    def losses(self, values: list[float]) -> dict[str, float]:
        """What `on_device` returned, by name; not finite where an update was left out."""
        ...


class Taken(Protocol):
    """How a run takes its steps: each launched, or replayed as a CUDA graph."""

    optimizers: dict[str, torch.optim.Optimizer]

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Take one step; the losses by name, not finite where an update was left out."""
        ...

    def reset(self) -> None:
        """Forget what is kept from step to step: the optimisers' state was replaced."""
        ...


class LaunchedStep:
    """Takes each step by launching its kernels one by one."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.optimizers = step.optimizers

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Take one step; the losses by name, not finite where an update was left out."""
        draws = [drawn.to(images_BCHW.device) for drawn in self._step.draw(len(images_BCHW), rng)]
        return self._step.losses(self._step.on_device(images_BCHW, labels_B, *draws).tolist())

    def reset(self) -> None:
        """Nothing is kept."""


def adam(config: TrainConfig, parameters: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2014), fused; on a GPU such that a CUDA graph can hold it."""
    betas = (config.adam_beta1, config.adam_beta2)
    return torch.optim.Adam(parameters, lr, betas, fused=True, capturable=config.device == "cuda")


def autocast(config: TrainConfig) -> torch.autocast:
    """bfloat16 autocast on the run's device, or none."""
    return torch.autocast(config.device, torch.bfloat16, enabled=config.precision == "bf16")


def draw_normal(count: int, dims: int, rng: torch.Generator) -> Tensor:
    """Standard normal, float32 [count, dims]."""
    return torch.randn(count, dims, generator=rng)


def update(optimizer: torch.optim.Optimizer, loss: Tensor, network: nn.Module, bad: Tensor | None = None) -> Tensor:
    """Backward and step, which is left out when the loss or a gradient is not finite, or it is `bad` already.

    Returns 1.0 where it was left out and 0.0 where not, float32 []. Nothing waits for the device to know which.
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
    """Buffers (batch statistics, singular vectors) as they are now, to be had again if the step is bad.

    A forward pass updates them before anyone can know that its numbers are not finite.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self._buffers = [buffer for network in networks for buffer in network.buffers()]
        self._saved = [buffer.clone() for buffer in self._buffers]

    def restore_where(self, bad: Tensor) -> None:
        """Undo what happened to them if `bad` is not 0, without waiting for the device."""
        for buffer, before in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(torch.where(bad > 0, before, buffer))
