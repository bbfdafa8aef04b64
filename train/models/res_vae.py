"""A residual autoencoder with a fitted prior: sharper samples than those of `conv-vae`.

The decoder has residual blocks of pre-activations (He et al. 2016), halves its maps as it doubles its side by the
nearest neighbour and a convolution (Odena, Dumoulin & Olah 2016: no checkerboard), and takes the label in every
normalisation (conditional batch normalisation, Dumoulin et al. 2017, de Vries et al. 2017). Samples come from a prior
of each class (`gen_engine.train.models.prior`).

Legend: B batch, F features, C maps, H height, W width, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from gen_engine.train.models.config import ModelConfig
from gen_engine.train.models.contract import Family
from gen_engine.train.models.prior import PriorGenerator, code_dim
from gen_engine.train.models.vae import Encoder

WIDEST = 4
"""Most maps of a layer, in widths."""

BLOCKS = 2
"""Residual blocks at the decoder's smallest side; there is one at every other but the largest."""


class ConditionalNorm(nn.Module):
    """Batch normalisation whose scale and shift are looked up by label; plain without classes."""

    def __init__(self, maps: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(maps, affine=not num_classes)
        self.scale_KC: nn.Embedding | None = None
        self.shift_KC: nn.Embedding | None = None
        if num_classes:
            self.scale_KC, self.shift_KC = nn.Embedding(num_classes, maps), nn.Embedding(num_classes, maps)
            nn.init.ones_(self.scale_KC.weight)
            nn.init.zeros_(self.shift_KC.weight)

    def forward(self, maps_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """Normalised maps, before the activation."""
        normal_BCHW: Tensor = self.norm(maps_BCHW)
        if self.scale_KC is None or self.shift_KC is None:
            return normal_BCHW
        scale_BC, shift_BC = self.scale_KC(labels_B), self.shift_KC(labels_B)
        return normal_BCHW * scale_BC[:, :, None, None] + shift_BC[:, :, None, None]


class Stage(nn.Module):
    """Normalisation, ReLU, doubling of the side where `double`, convolution of 3×3."""

    def __init__(self, maps_in: int, maps_out: int, num_classes: int, *, double: bool = False) -> None:
        super().__init__()
        self.norm = ConditionalNorm(maps_in, num_classes)
        self.convolution = nn.Conv2d(maps_in, maps_out, kernel_size=3, padding=1, bias=False)
        self.double = double

    def forward(self, maps_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """Maps of the same side, or of twice the side."""
        h_BCHW = functional.relu(self.norm(maps_BCHW, labels_B))
        if self.double:
            h_BCHW = functional.interpolate(h_BCHW, scale_factor=2.0, mode="nearest")
        return self.convolution(h_BCHW)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Two stages and a connection around them."""

    def __init__(self, maps: int, num_classes: int) -> None:
        super().__init__()
        self.first, self.second = Stage(maps, maps, num_classes), Stage(maps, maps, num_classes)

    def forward(self, maps_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """Maps of the same shape."""
        return maps_BCHW + self.second(self.first(maps_BCHW, labels_B), labels_B)  # type: ignore[no-any-return]


class ResidualDecoder(PriorGenerator):
    """Codes and labels to images through residual blocks."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        sides, classes = halvings(config), config.num_classes
        maps = [config.width // 2 or 1, *(_maps(config, level) for level in range(sides))]
        self.smallest = (maps[-1], *(2 * [config.image_size // 2**sides]))
        self.dense = nn.Linear(self.input_dim, math.prod(self.smallest))
        layers: list[nn.Module] = [Block(maps[-1], classes) for _ in range(BLOCKS)]
        for level in reversed(range(sides)):
            layers.append(Stage(maps[level + 1], maps[level], classes, double=True))
            if level:
                layers.append(Block(maps[level], classes))
        self.layers = nn.ModuleList(layers)
        self.last_norm = ConditionalNorm(maps[0], classes)
        self.last = nn.Conv2d(maps[0], config.channels, kernel_size=3, padding=1)

    def from_code(self, code_BD: Tensor, labels_B: Tensor | None) -> Tensor:
        """Images_BCHW in [-1, 1], float32; ValueError when labels are missing or not wanted."""
        h_BCHW = self.dense(self._condition(code_BD, labels_B)).unflatten(1, self.smallest)
        for layer in cast(Iterable[nn.Module], self.layers):
            h_BCHW = layer(h_BCHW, labels_B)
        h_BCHW = functional.relu(self.last_norm(h_BCHW, labels_B))
        images_BCHW: Tensor = self.last(h_BCHW).tanh().float()
        return images_BCHW


def residual_encoder(config: ModelConfig) -> Encoder:
    """Strided convolutions with batch normalisation down to the decoder's smallest side, and one more there."""
    maps_in = config.channels
    layers: list[nn.Module] = []
    for level in range(halvings(config)):
        maps = _maps(config, level)
        layers.append(nn.Conv2d(maps_in, maps, kernel_size=4, stride=2, padding=1, bias=level == 0))
        layers += [nn.LeakyReLU(0.2)] if level == 0 else [nn.BatchNorm2d(maps), nn.LeakyReLU(0.2)]
        maps_in = maps
    layers += [nn.Conv2d(maps_in, maps_in, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(maps_in)]
    layers += [nn.LeakyReLU(0.2), nn.Flatten()]
    side = config.image_size // 2 ** halvings(config)
    return Encoder(config, nn.Sequential(*layers), maps_in * side * side, code_dim(config))


def halvings(config: ModelConfig) -> int:
    """How often a side is halved: 28 to 7; 32, 64 and 128 to 8."""
    return {28: 2, 32: 2, 64: 3, 128: 4}[config.image_size]


def _maps(config: ModelConfig, level: int) -> int:
    """Maps after `level` + 1 halvings."""
    return config.width * min(WIDEST, 2**level)


RES_VAE = Family(kind="vae", generator=ResidualDecoder, auxiliary=residual_encoder, default_loss="sigma-elbo")
