"""Sums of gradients of which each image has a bounded part, and the noise on them: DP-SGD (Abadi et al. 2016).

Opacus computes the gradient of every image by itself and clips it, over all weights together. The noise is added here,
since it is to come from the operating system's generator: see `gen_engine.train.privacy.mechanism`.

Legend: B batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gen_engine.train.errors import ConfigError
from gen_engine.train.objectives.step import backward
from gen_engine.train.privacy.mechanism import secret_normal

MARGIN = 1e-4
"""How far below the clipping norm gradients are clipped, as a share of it: room for rounding, so that the noise, which
is of the whole norm, is never too small."""

MOST_VALUES = 2**23
"""Values of gradients of single images that are in memory at once."""


class ClippedGradients:
    """The gradients of a network that is trained with differential privacy.

    Args:
        network: what is trained; each of its outputs depends on one image alone.
        optimizer: of all its parameters.
        clip: largest norm C of the gradient of one image.
        noise_multiplier: σ.
        expected: expected number of images in a sum, by which it is divided.

    Raises:
        ConfigError: a layer mixes the images of a batch, or has weights whose gradient Opacus cannot take apart.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip: float,
        noise_multiplier: float,
        expected: int,
    ) -> None:
        from opacus import GradSampleModule  # the ledger, made before, needs the library too
        from opacus.optimizers import DPOptimizer
        from opacus.validators import ModuleValidator

        problems = ModuleValidator.validate(network, strict=False)
        if problems:
            raise ConfigError(f"this discriminator cannot be trained with --dp-mechanism gan: {problems[0]}")
        self._noise, self._expected = clip * noise_multiplier, expected
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._hooks: Any = GradSampleModule(network, loss_reduction="mean")
        self._clipping: Any = DPOptimizer(
            optimizer,
            noise_multiplier=0.0,  # none of its own
            max_grad_norm=clip * (1.0 - MARGIN),
            expected_batch_size=expected,
        )
        self.rows = max(1, min(512, MOST_VALUES // sum(p.numel() for p in self._parameters)))
        """Images whose gradients are computed together, B."""

    def clear(self) -> None:
        """Begin a sum."""
        self._clipping.zero_grad(set_to_none=True)

    def add(self, loss: Tensor) -> None:
        """Add the clipped gradients of the B images that this loss is the mean of."""
        for parameter in self._parameters:
            parameter.grad_sample = None  # type: ignore[attr-defined]
        with warnings.catch_warnings():  # labels and images need no gradient, as the warning says at length
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            backward(loss)
        self._drop_not_finite()
        self._clipping.clip_and_accumulate()

    def release(self) -> None:
        """Add the noise to the sum and leave the mean in `grad`; nothing of single images remains."""
        for parameter in self._parameters:
            total: Tensor = parameter.summed_grad  # type: ignore[attr-defined]
            noise = torch.from_numpy(secret_normal(tuple(total.shape)) * self._noise).to(total.device)
            # Rounded to float32 after the addition: the last bits of a sum can tell what was added (Mironov 2012).
            noisy = ((total.double() + noise) / self._expected).float()
            self._forget(parameter)
            parameter.grad = noisy

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Gradients through the network, not of it, inside."""
        self._hooks.disable_hooks()
        try:
            yield
        finally:
            self._hooks.enable_hooks()

    def _forget(self, parameter: Any) -> None:
        parameter.grad_sample = parameter.summed_grad = None

    def _drop_not_finite(self) -> None:
        """Leave out images whose gradient is no number: one of them would be the whole sum, and tell."""
        each = [parameter.grad_sample for parameter in self._parameters]  # type: ignore[attr-defined]
        finite_B = torch.stack([one.flatten(1).isfinite().all(dim=1) for one in each]).all(dim=0)
        if not finite_B.all():
            for one in each:
                one[~finite_B] = 0.0
