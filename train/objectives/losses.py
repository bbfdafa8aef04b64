"""Losses, each on float32 tensors and averaged over the batch. Legend: B batch, Z latent dimensions, C, H, W image.

GAN losses take logits (before the sigmoid), positive meaning real. With σ the sigmoid,
−log σ(t) = softplus(−t) and −log(1 − σ(t)) = softplus(t), which cannot overflow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from gen_engine.train.options import LossOptions
from gen_engine.train.parallel import collectives


class GanLoss(Protocol):
    """A pair of scalar losses, one for each player."""

    paired: ClassVar[bool]
    """Whether the generator's loss looks at the logits of real images, which cost another pass."""

    def discriminator(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """What the discriminator minimises."""
        ...

    def generator(self, fake_B: Tensor, real_B: Tensor | None = None) -> Tensor:
        """What the generator minimises; `real_B` is given when the loss is paired."""
        ...


@dataclass(frozen=True)
class NonSaturating:
    """Goodfellow et al. 2014, section 3: D minimises −log σ(real) − log(1 − σ(fake)), G minimises −log σ(fake)."""

    paired: ClassVar[bool] = False

    def discriminator(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """Mean of softplus(−real) plus mean of softplus(fake)."""
        return functional.softplus(-real_B).mean() + functional.softplus(fake_B).mean()

    def generator(self, fake_B: Tensor, real_B: Tensor | None = None) -> Tensor:
        """Mean of softplus(−fake)."""
        return functional.softplus(-fake_B).mean()


@dataclass(frozen=True)
class Minimax(NonSaturating):
    """Goodfellow et al. 2014, equation 1: G minimises log(1 − σ(fake)), whose gradient fades when D wins."""

    def generator(self, fake_B: Tensor, real_B: Tensor | None = None) -> Tensor:
        """Mean of −softplus(fake)."""
        return -functional.softplus(fake_B).mean()


@dataclass(frozen=True)
class SmoothedBce(NonSaturating):
    """Binary cross-entropy with one-sided label smoothing (Salimans et al. 2016, section 3.4).

    D's target for real images is 1 − smoothing, for fake ones 0; G's target is 1.
    """

    smoothing: float = 0.1

    def discriminator(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """Cross-entropy of the two halves, summed."""
        target_B = torch.full_like(real_B, 1.0 - self.smoothing)
        real = functional.binary_cross_entropy_with_logits(real_B, target_B)
        return real + functional.softplus(fake_B).mean()


@dataclass(frozen=True)
class Wasserstein:
    """Arjovsky et al. 2017: D minimises mean(fake) − mean(real), G minimises −mean(fake).

    D has to be Lipschitz, which the penalty of Gulrajani et al. 2017 sees to (`gradient_penalty`).
    """

    paired: ClassVar[bool] = False

    def discriminator(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """Mean of fake less mean of real."""
        return fake_B.mean() - real_B.mean()

    def generator(self, fake_B: Tensor, real_B: Tensor | None = None) -> Tensor:
        """Mean of −fake."""
        return -fake_B.mean()


@dataclass(frozen=True)
class Hinge(Wasserstein):
    """Lim & Ye 2017: D minimises max(0, 1 − real) + max(0, 1 + fake), G minimises −fake; use spectral normalisation."""

    def discriminator(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """Mean of max(0, 1 − real) plus mean of max(0, 1 + fake)."""
        return functional.relu(1.0 - real_B).mean() + functional.relu(1.0 + fake_B).mean()


@dataclass(frozen=True)
class LeastSquares:
    """Mao et al. 2017, equation 9: targets 1 for real and 0 for fake, in squares."""

    paired: ClassVar[bool] = False

    def discriminator(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """Half the mean of (real − 1)² plus half the mean of fake²."""
        return 0.5 * ((real_B - 1.0).square().mean() + fake_B.square().mean())

    def generator(self, fake_B: Tensor, real_B: Tensor | None = None) -> Tensor:
        """Half the mean of (fake − 1)²."""
        return 0.5 * (fake_B - 1.0).square().mean()


@dataclass(frozen=True)
class Relativistic:
    """Jolicoeur-Martineau 2018, the pairing that Huang et al. 2024 (R3GAN) train with, with R1 and R2.

    Each generated image is judged beside a real one: D minimises −log σ(real − fake), G minimises −log σ(fake − real).
    """

    paired: ClassVar[bool] = True

    def discriminator(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """Mean of softplus(fake − real)."""
        return functional.softplus(fake_B - real_B).mean()

    def generator(self, fake_B: Tensor, real_B: Tensor | None = None) -> Tensor:
        """Mean of softplus(real − fake); ValueError without the logits of real images."""
        if real_B is None:
            raise ValueError("the relativistic loss of the generator needs the logits of real images")
        return functional.softplus(real_B - fake_B).mean()


@dataclass(frozen=True)
class Elbo:
    """The negative evidence lower bound (Kingma & Welling 2013), its KL term weighted by β (Higgins et al. 2017).

    The likelihood is a unit-variance Gaussian on images in [-1, 1] (its constant left out); with labels given to
    both networks it is the conditional bound of Sohn et al. 2015. In nats per image.
    """

    beta: float = 1.0

    def __call__(
        self,
        decoded_BCHW: Tensor,
        images_BCHW: Tensor,
        mean_BZ: Tensor,
        log_variance_BZ: Tensor,
        warmth: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, reconstruction, KL), scalars, loss = reconstruction + β·KL, or + `warmth`·β·KL."""
        reconstruction = self.reconstruction(decoded_BCHW, images_BCHW)
        kl_BZ = 0.5 * (mean_BZ.square() + log_variance_BZ.exp() - 1.0 - log_variance_BZ)
        kl = kl_BZ.sum(dim=1).mean()
        beta = self.beta if warmth is None else self.beta * warmth
        return reconstruction + beta * kl, reconstruction, kl

    def reconstruction(self, decoded_BCHW: Tensor, images_BCHW: Tensor) -> Tensor:
        """Half the squared error, summed over an image."""
        return 0.5 * (decoded_BCHW - images_BCHW).square().flatten(1).sum(dim=1).mean()


@dataclass(frozen=True)
class SigmaElbo(Elbo):
    """The bound with the variance of the likelihood that is best for the batch (Rybkin, Daniilidis & Levine 2021).

    That variance is the mean squared error σ², at which the negative log likelihood of an image of n values is
    (n/2)·(log σ² + log 2π + 1); its constants are left out. So the weight of the KL term follows the errors of the
    decoder, and needs no tuning by hand. In nats per image; it may be negative.
    """

    def reconstruction(self, decoded_BCHW: Tensor, images_BCHW: Tensor) -> Tensor:
        """(n/2)·log(σ² + the variance of rounding to 256 levels), whose gradient is bounded."""
        error = collectives.mean((decoded_BCHW - images_BCHW).square().mean())  # of the whole batch: log is not linear
        variance = error + ROUNDING_VARIANCE
        return 0.5 * images_BCHW[0].numel() * variance.log()


ROUNDING_VARIANCE = (2.0 / 255.0) ** 2 / 12.0
"""Variance of the rounding error of images in [-1, 1] that are stored in 256 levels."""


GAN_LOSSES: dict[str, Callable[[LossOptions], GanLoss]] = {
    "non-saturating": lambda options: NonSaturating(),
    "minimax": lambda options: Minimax(),
    "bce": lambda options: SmoothedBce(options.label_smoothing),
    "hinge": lambda options: Hinge(),
    "least-squares": lambda options: LeastSquares(),
    "wasserstein": lambda options: Wasserstein(),
    "relativistic": lambda options: Relativistic(),
}
VAE_LOSSES: dict[str, Callable[[LossOptions], Elbo]] = {
    "elbo": lambda options: Elbo(options.beta),
    "sigma-elbo": lambda options: SigmaElbo(options.beta),
}

LOSSES: dict[str, Callable[[LossOptions], GanLoss | Elbo]] = {**GAN_LOSSES, **VAE_LOSSES}
