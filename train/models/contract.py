"""What every generator and every auxiliary is, whatever its family, and how labels enter them.

Legend: B batch, Z latent dimensions, D code dimensions, E label embedding, F features, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gen_engine.train.models.config import ModelConfig


class Generator(nn.Module):
    """Latents and labels to images: `forward(z_BZ, labels_B) -> images_BCHW`.

    z_BZ is float32 from a standard normal; labels_B is int64 in [0, num_classes), or None for an unconditional
    model; the images are float32 in [-1, 1]. Labels enter as a learned embedding concatenated to the latent
    (Mirza & Osindero 2014). Subclasses implement `decode(h_BF)` on that concatenation of length `input_dim`,
    or `from_code` if labels enter in other places too.

    A VAE's encoder makes codes, float32 [B, `code_dim`]. They are the latents, unless the generator draws its codes
    from a prior of its own (`gen_engine.train.models.prior`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_dim = self.code_dim = config.latent_dim
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape
        self.label_embedding = nn.Embedding(config.num_classes, config.label_dim) if config.num_classes else None
        self.input_dim = config.latent_dim + (config.label_dim if config.num_classes else 0)

    def forward(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """Images for these latents; ValueError when labels are missing or not wanted."""
        check_labels(self.num_classes, labels_B)
        return self.from_code(self.code(z_BZ, labels_B), labels_B)

    def code(self, z_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        """The codes of these latents: the latents, unless there is a prior."""
        return z_BZ

    def from_code(self, code_BD: Tensor, labels_B: Tensor | None) -> Tensor:
        """Images for these codes; ValueError when labels are missing or not wanted."""
        return self.decode(self._condition(code_BD, labels_B)).float()

    def decode(self, h_BF: Tensor) -> Tensor:
        """Images in [-1, 1] from latents with the label embedding already attached."""
        raise NotImplementedError

    def _condition(self, code_BD: Tensor, labels_B: Tensor | None) -> Tensor:
        check_labels(self.num_classes, labels_B)
        if self.label_embedding is None or labels_B is None:
            return code_BD
        return torch.cat([code_BD, self.label_embedding(labels_B)], dim=1)


class Discriminator(nn.Module):
    """Images and labels to logits: `forward(images_BCHW, labels_B) -> logits_B` float32, positive means real.

    Labels enter as a projection, logit = w·h + v_y·h for features h (Miyato & Koyama 2018), as a classifier of the same
    features (Odena et al. 2017), or as both: `conditioning`. Subclasses implement `features(images_BCHW) -> h_BF`.
    `spectral` divides the head's weights by their largest singular value, as in the layers below it.
    """

    def __init__(self, config: ModelConfig, features: int, *, spectral: bool) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.head = maybe_spectral(nn.Linear(features, 1), spectral)
        self.projection: nn.Module | None = None
        self.classifier: nn.Module | None = None
        if config.num_classes and config.conditioning != "auxiliary":
            self.projection = maybe_spectral(nn.Embedding(config.num_classes, features), spectral)
        if config.num_classes and config.conditioning != "projection":
            self.classifier = nn.Linear(features, config.num_classes)

    def forward(self, images_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """Logits; ValueError when labels are missing or not wanted."""
        return self.judge(images_BCHW, labels_B)[0]

    def judge(self, images_BCHW: Tensor, labels_B: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits_B, and logits_BK of the classes K if there is a classifier; ValueError as `forward`."""
        check_labels(self.num_classes, labels_B)
        h_BF = self.features(images_BCHW)
        logits_B: Tensor = self.head(h_BF).squeeze(1)
        if self.projection is not None:
            logits_B = logits_B + (self.projection(labels_B) * h_BF).sum(dim=1)
        return logits_B.float(), None if self.classifier is None else self.classifier(h_BF).float()

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The vector h_BF that the head, the projection and the classifier see."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one family is built and trained."""

    kind: str
    """"gan", "vae" or "vae-gan": which training step it takes."""

    generator: Callable[[ModelConfig], Generator]
    """The generator, or the VAE's decoder."""

    auxiliary: Callable[[ModelConfig], nn.Module]
    """The network it is trained with: a discriminator, or an encoder."""

    default_loss: str
    """A key of `gen_engine.train.objectives.losses.LOSSES`."""


def check_labels(num_classes: int, labels_B: Tensor | None) -> None:
    """ValueError unless labels are given exactly when the model is conditional."""
    if num_classes and labels_B is None:
        raise ValueError(f"this model is conditional on {num_classes} classes: labels are required")
    if not num_classes and labels_B is not None:
        raise ValueError("this model is unconditional: labels must be None")


def maybe_spectral(layer: nn.Module, spectral: bool) -> nn.Module:
    """The layer, spectrally normalised (Miyato et al. 2018) if `spectral`."""
    return spectral_norm(layer) if spectral else layer


def init_radford(module: nn.Module) -> None:
    """Weights of Radford et al. 2015: N(0, 0.02) for (transposed) convolutions and dense layers, BN at N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def flat_size(shape: tuple[int, ...]) -> int:
    """Number of values in one image of this shape."""
    return math.prod(shape)
