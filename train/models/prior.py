"""A prior of each class, fitted to the codes of the training images, inside the generator's graph.

An autoencoder's codes are not distributed as the standard normal that its decoder would be fed with. Fitting a mixture
of Gaussians to them afterwards gives samples from where the decoder was trained (Ghosh et al. 2020, "From variational
to deterministic autoencoders", section 4). The graph still takes standard normal latents: the last one chooses the
component, the rest are that component's noise.

Legend: B batch, Z latents, D = Z - 1 dimensions of a code, Q classes (1 if unconditional), K components.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gen_engine.train.errors import ConfigError
from gen_engine.train.models.config import ModelConfig
from gen_engine.train.models.contract import Generator
from gen_engine.train.models.mixture import fit_mixture

COMPONENTS = 8
"""Most components of a class."""

COMPONENTS_WITHOUT_CLASSES = 64
"""Most components where there are no classes."""

NEVER = 100.0
"""A threshold that no standard normal number reaches: the components after it are never chosen."""


TINY = 1e-6
"""Thresholds nearer to 0 are 0: no runtime has to tell subnormal numbers apart."""


class MixturePrior(nn.Module):
    """Standard normal latents to codes: `forward(z_BZ, labels_B) -> code_BD`, float32; it has buffers only.

    With Φ the normal distribution function and w_1, w_2, … a class's weights, Φ(z) is uniform, so the number of
    thresholds Φ⁻¹(w_1), Φ⁻¹(w_1 + w_2), … that z exceeds is component k with probability w_k. The thresholds are
    stored, and are such that bfloat16 compares as float32 does: every runtime chooses the same component, where another
    one would be another image. Before it is fitted, the codes are the first D latents.
    """

    thresholds_QK: Tensor
    means_QKD: Tensor
    factors_QKDD: Tensor

    def __init__(self, num_classes: int, dims: int) -> None:
        super().__init__()
        classes = max(1, num_classes)
        components = COMPONENTS if num_classes else COMPONENTS_WITHOUT_CLASSES
        self.register_buffer("thresholds_QK", torch.full((classes, components - 1), NEVER))
        self.register_buffer("means_QKD", torch.zeros(classes, components, dims))
        self.register_buffer("factors_QKDD", torch.eye(dims).repeat(classes, components, 1, 1))

    def forward(self, z_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        """The code of each row of latents."""
        _, components, dims = self.means_QKD.shape
        noise_BD, choice_B1 = z_BZ[:, :dims], z_BZ[:, dims:]
        if labels_B is None:
            chosen_B = (choice_B1 > self.thresholds_QK).long().sum(dim=1)
        else:
            exceeded_BK = choice_B1 > functional.embedding(labels_B, self.thresholds_QK)
            chosen_B = labels_B * components + exceeded_BK.long().sum(dim=1)
        mean_BD = functional.embedding(chosen_B, self.means_QKD.flatten(0, 1))
        factor_BF = functional.embedding(chosen_B, self.factors_QKDD.flatten(2).flatten(0, 1))
        return mean_BD + torch.matmul(factor_BF.reshape(-1, dims, dims), noise_BD[:, :, None])[:, :, 0]

    @torch.no_grad()
    def fit(self, codes_ND: Tensor, labels_N: Tensor | None, seed: int) -> None:
        """Fit each class's mixture to its codes; a class of no codes keeps what it has.

        Args:
            codes_ND: codes of training images, finite.
            labels_N: their classes, int64, or None where there are no classes.
            seed: of the fit's first centres.
        """
        for each, (thresholds_K, means_KD, factors_KDD) in enumerate(
            zip(self.thresholds_QK, self.means_QKD, self.factors_QKDD, strict=True)
        ):
            rows_ND = codes_ND if labels_N is None else codes_ND[labels_N == each]
            if not len(rows_ND):
                continue
            mixture = fit_mixture(rows_ND, len(means_KD), torch.Generator().manual_seed(seed))
            count = len(mixture.weights_K)
            thresholds_K.fill_(NEVER)
            quantiles_K = torch.special.ndtri(mixture.weights_K.cumsum(dim=0))[:-1]
            thresholds_K[: count - 1] = between_bfloat16(quantiles_K.clamp(max=NEVER).float())
            means_KD.zero_()[:count] = mixture.means_KD
            factors_KDD.copy_(torch.eye(factors_KDD.shape[1]))[:count] = mixture.factors_KDD


def between_bfloat16(values: Tensor) -> Tensor:
    """Nearby numbers t, float32, for which z > t is the same after z, or z and t, are rounded to bfloat16.

    Each lies halfway between a number of bfloat16 with an even significand, which t and a tie are rounded to, and the
    next one above it, within 2^-7 of the value, in proportion; or is 0.
    """
    exponent = torch.frexp(values.double()).exponent
    step = torch.exp2(exponent.double() - 7.0)  # between even significands, of which bfloat16 has 8 bits
    even = ((values / step - 0.25).round() * step).bfloat16() + 0.0  # no negative zero
    bits = even.view(torch.int16)
    above = torch.where(bits >= 0, bits + 1, bits - 1).view(torch.bfloat16)
    return torch.where(values.abs() < TINY, 0.0, 0.5 * (even.float() + above.float()))


class PriorGenerator(Generator):
    """A generator whose latents go through a fitted prior. Subclasses implement `decode`, as of any generator."""

    def __init__(self, config: ModelConfig) -> None:
        if config.latent_dim < 2:
            raise ConfigError(
                f"latent-dim is {config.latent_dim}: model {config.family} needs 2 or more, one to choose"
            )
        super().__init__(config)
        self.code_dim = code_dim(config)
        self.input_dim -= 1
        self.prior = MixturePrior(config.num_classes, self.code_dim)

    def code(self, z_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        """Codes_BD drawn from the prior of the rows' classes."""
        return self.prior(z_BZ, labels_B)  # type: ignore[no-any-return]


def code_dim(config: ModelConfig) -> int:
    """Dimensions of a code where one of the latents chooses a component."""
    return config.latent_dim - 1
