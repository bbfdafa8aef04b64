"""What a training step is, and the guard that keeps bad gradients out of the weights.

Legend: B batch, Z latent dimensions, C, H, W image.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from gen_engine.train.config import TrainConfig
from gen_engine.train.parallel import collectives


class Step(Protocol):
    """A training step with the optimisers it drives. All that is random in it is drawn first, on the CPU."""

    optimizers: dict[str, torch.optim.Optimizer]

    kept: nn.Module
    """What a step has to remember, in its buffers."""

    variant: Hashable
    """Which of its forms the step has: steps of one form launch the same kernels."""

    def begin(self, number: int, total: int) -> None:
        """Be step `number`, counted from 0, of `total`."""
        ...

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """The random numbers of a step on `count` images, on the CPU: a run has one random stream on every device.

        Each has `count` rows, or some multiple of it: blocks with a row for each image.
        """
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
    kept: nn.Module

    def begin(self, number: int, total: int) -> None:
        """Be step `number`, counted from 0, of `total`."""
        ...

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Take one step; the losses by name, not finite where an update was left out."""
        ...

    def reset(self) -> None:
        """Forget what is kept from step to step: the optimisers' state was replaced."""
        ...


class LaunchedStep:
    """Takes each step by launching its kernels one by one, on this process's rows of a batch.

    Args:
        step: what a step is.
        parts: `accumulate` of the configuration.
    """

    def __init__(self, step: Step, parts: int = 1) -> None:
        self._step, self._parts = step, parts
        self.optimizers, self.kept, self.begin = step.optimizers, step.kept, step.begin

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Take one step; the losses by name, not finite where an update was left out."""
        whole, device = len(images_BCHW) * collectives.size(), images_BCHW.device
        draws = [collectives.share(drawn, whole, self._parts).to(device) for drawn in self._step.draw(whole, rng)]
        values = self._step.on_device(images_BCHW, labels_B, *draws)
        return self._step.losses(collectives.mean(values).tolist())

    def reset(self) -> None:
        """Nothing is kept."""


def adam(config: TrainConfig, parameters: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2014), fused; on a GPU such that a CUDA graph can hold it."""
    betas = (config.adam_beta1, config.adam_beta2)
    on_gpu = config.device == "cuda"
    rate = torch.tensor(lr, device=config.device) if on_gpu and config.lr_final != 1.0 else lr
    return torch.optim.Adam(parameters, rate, betas, fused=True, capturable=on_gpu)


def autocast(config: TrainConfig) -> torch.autocast:
    """bfloat16 autocast on the run's device, or none."""
    return torch.autocast(config.device, torch.bfloat16, enabled=config.precision == "bf16")


def draw_normal(count: int, dims: int, rng: torch.Generator) -> Tensor:
    """Standard normal, float32 [count, dims]."""
    return torch.randn(count, dims, generator=rng)


class Schedule:
    """Learning rates that fall along a cosine from the configured ones to `lr_final` of them.

    Loshchilov & Hutter 2017, without restarts.
    """

    def __init__(self, config: TrainConfig, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        self._final = config.lr_final
        self._groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
        self._first = [float(group["lr"]) for group in self._groups]

    def set(self, number: int, total: int) -> None:
        """Set the rates of step `number`, counted from 0, of `total`."""
        if self._final == 1.0:
            return
        share = self._final + (1.0 - self._final) * 0.5 * (1.0 + math.cos(math.pi * number / max(total, 1)))
        for group, first in zip(self._groups, self._first, strict=True):
            if isinstance(group["lr"], Tensor):  # which a CUDA graph reads anew
                group["lr"].fill_(first * share)
            else:
                group["lr"] = first * share


def backward(loss: Tensor) -> None:
    """Add the gradients of this loss."""
    loss.backward()  # type: ignore[no-untyped-call]


def update(optimizer: torch.optim.Optimizer, loss: Tensor, network: nn.Module, bad: Tensor | None = None) -> Tensor:
    """Step by the gradients of the whole batch, unless the loss or one of them is not finite, or it is `bad` already.

    Returns 1.0 where it was left out and 0.0 where not, float32 []. Nothing waits for the device to know which.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    loss = collectives.average_gradients(gradients, loss.detach())
    norm = torch.nn.utils.get_total_norm(gradients)
    now = torch.isfinite(loss + norm).logical_not().float()
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
