"""Residual networks for GANs (Gulrajani et al. 2017; Miyato & Koyama 2018): nearest up-sampling, average pooling.

The generator starts from a dense map of 7×7 (28×28) or 4×4 (32, 64, 128) and doubles it in every block; the
discriminator halves the image down to that size. Feature maps halve towards the image, from at most 8 × `width` to
`width`.

Legend: B batch, E label embedding, F features, C channels, H height, W width.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gen_engine.train.models.class_norm import ClassNorm, norm
from gen_engine.train.models.config import ModelConfig
from gen_engine.train.models.contract import Discriminator, Family, Generator, maybe_spectral


class UpBlock(nn.Module):
    """Twice the height and width: two 3×3 convolutions beside a 1×1 one, added."""

    def __init__(self, config: ModelConfig, maps_in: int, maps: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(config, maps_in), norm(config, maps)
        self.conv1 = nn.Conv2d(maps_in, maps, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(maps, maps, kernel_size=3, padding=1)
        self.skip = nn.Conv2d(maps_in, maps, kernel_size=1)

    def forward(self, x_BCHW: Tensor, embedding_BE: Tensor) -> Tensor:
        """The block's features."""
        h_BCHW = functional.relu(_normalised(self.norm1, x_BCHW, embedding_BE))
        h_BCHW = self.conv1(functional.interpolate(h_BCHW, scale_factor=2.0, mode="nearest"))
        h_BCHW = self.conv2(functional.relu(_normalised(self.norm2, h_BCHW, embedding_BE)))
        # A 1×1 convolution and nearest up-sampling commute: the convolution comes first, on a quarter of the pixels.
        skip_BCHW: Tensor = functional.interpolate(self.skip(x_BCHW), scale_factor=2.0, mode="nearest")
        return torch.add(skip_BCHW, h_BCHW)


class ResidualGenerator(Generator):
    """A dense map and a block for every doubling."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        side, maps = start(config)
        self.dense = nn.Sequential(nn.Linear(self.input_dim, maps[0] * side**2), nn.Unflatten(1, (maps[0], side, side)))
        self.blocks = nn.ModuleList(UpBlock(config, *pair) for pair in itertools.pairwise(maps))
        self.norm = nn.BatchNorm2d(maps[-1])
        self.last = nn.Conv2d(maps[-1], config.channels, kernel_size=3, padding=1)
        self.apply(init_orthogonal)

    def decode(self, h_BF: Tensor) -> Tensor:
        """Images_BCHW in [-1, 1]."""
        embedding_BE = h_BF[:, self.code_dim :]
        x_BCHW = self.dense(h_BF)
        for block in self.blocks:
            x_BCHW = block(x_BCHW, embedding_BE)
        return torch.tanh(self.last(functional.relu(self.norm(x_BCHW))))


class DownBlock(nn.Module):
    """Half the height and width: two 3×3 convolutions and average pooling, beside a pooled 1×1 convolution, added."""

    def __init__(self, maps_in: int, maps: int, *, spectral: bool, first: bool) -> None:
        super().__init__()
        self.first = first
        self.conv1 = maybe_spectral(nn.Conv2d(maps_in, maps, kernel_size=3, padding=1), spectral)
        self.conv2 = maybe_spectral(nn.Conv2d(maps, maps, kernel_size=3, padding=1), spectral)
        self.skip = maybe_spectral(nn.Conv2d(maps_in, maps, kernel_size=1), spectral)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The block's features."""
        h_BCHW = x_BCHW if self.first else functional.leaky_relu(x_BCHW, 0.2)  # an image is not cut off below zero
        h_BCHW = self.conv2(functional.leaky_relu(self.conv1(h_BCHW), 0.2))
        sum_BCHW: Tensor = functional.avg_pool2d(h_BCHW, 2) + self.skip(functional.avg_pool2d(x_BCHW, 2))
        return sum_BCHW * math.sqrt(0.5)  # keeps the variance of a sum of two


class ResidualDiscriminator(Discriminator):
    """A block for every halving, then the sum over what is left of the image."""

    def __init__(self, config: ModelConfig) -> None:
        side, maps = start(config)
        super().__init__(config, maps[0], spectral=config.spectral)
        sizes = [config.channels, *reversed(maps[1:])]
        self.blocks = nn.Sequential(
            *(
                DownBlock(*pair, spectral=config.spectral, first=index == 0)
                for index, pair in enumerate(itertools.pairwise(sizes))
            )
        )
        self.dense = maybe_spectral(nn.Linear(sizes[-1] * side**2, maps[0]), config.spectral)
        self.apply(init_orthogonal)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """h_BF with as many features as the deepest map has."""
        x_BCHW = functional.leaky_relu(self.blocks(images_BCHW), 0.2)
        return functional.leaky_relu(self.dense(x_BCHW.flatten(1)), 0.2)


def start(config: ModelConfig) -> tuple[int, list[int]]:
    """The side of the smallest map, and the feature maps from there to the image's size."""
    side = 7 if config.image_size == 28 else 4
    doublings = int(math.log2(config.image_size // side))
    return side, [
        config.width * min(2 ** (doublings - 1 - at), 8) if at < doublings else config.width
        for at in range(doublings + 1)
    ]


def init_orthogonal(module: nn.Module) -> None:
    """Orthogonal weights (Saxe et al. 2014), as Brock et al. 2019 begin; biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear) and not hasattr(module, "parametrizations"):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, ClassNorm):
        nn.init.zeros_(module.scale.weight)
        nn.init.zeros_(module.shift.weight)


def _normalised(layer: nn.Module, x_BCHW: Tensor, embedding_BE: Tensor) -> Tensor:
    normalised_BCHW: Tensor = layer(x_BCHW, embedding_BE) if isinstance(layer, ClassNorm) else layer(x_BCHW)
    return normalised_BCHW


RESIDUAL = Family(kind="gan", generator=ResidualGenerator, auxiliary=ResidualDiscriminator, default_loss="hinge")
