"""DCGAN (Radford, Metz & Chintala 2015), with a spectrally normalised projection discriminator.

28×28: a dense layer to 7×7×2w and two stride-2 transposed convolutions. 32, 64, 128: the paper's stack, 1×1→4×4→…,
with as many feature maps as the paper at 64 (8w, 4w, 2w, w). The discriminator mirrors the generator;
where the paper has batch normalisation it has spectral normalisation (Miyato et al. 2018), which needs no
statistics over a batch, so real and fake images can share one pass.

Legend: B batch, F features, C channels, H height, W width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from gen_engine.train.models.class_norm import ClassSequential, norm
from gen_engine.train.models.config import ModelConfig
from gen_engine.train.models.contract import Discriminator, Family, Generator, init_radford, maybe_spectral


class DcganGenerator(Generator):
    """Transposed convolutions from a dense 7×7 map (28×28) or from a 1×1 map (32, 64, 128); also a VAE's decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.layers = upsampler(config, self.input_dim)
        self.layers.apply(init_radford)

    def decode(self, h_BF: Tensor) -> Tensor:
        """Images_BCHW in [-1, 1]."""
        images_BCHW: Tensor = self.layers(h_BF)
        return images_BCHW


class DcganDiscriminator(Discriminator):
    """Strided convolutions that halve the image down to 7×7 or 4×4, then one dense layer of features."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.hidden, spectral=config.spectral)
        self.trunk = downsampler(config, spectral=config.spectral)
        self.dense = maybe_spectral(nn.Linear(downsampled_size(config), config.hidden), config.spectral)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """h_BF with F = `hidden`."""
        return functional.leaky_relu(self.dense(self.trunk(images_BCHW)), 0.2)


def upsampler(config: ModelConfig, input_dim: int) -> nn.Sequential:
    """Layers from a vector of input_dim to an image in [-1, 1]."""
    width = config.width
    layers: list[nn.Module] = []
    if config.image_size == 28:
        maps = 2 * width
        layers += [nn.Linear(input_dim, maps * 49, bias=False), nn.Unflatten(1, (maps, 7, 7))]
        halvings = 2
    else:
        halvings = int(math.log2(config.image_size // 4))
        maps = width * 2 ** (halvings - 1)
        layers += [
            nn.Unflatten(1, (input_dim, 1, 1)),
            nn.ConvTranspose2d(input_dim, maps, kernel_size=4, bias=False),
        ]
    layers += [norm(config, maps), nn.ReLU()]
    for _ in range(halvings - 1):
        layers += [
            nn.ConvTranspose2d(maps, maps // 2, kernel_size=4, stride=2, padding=1, bias=False),
            norm(config, maps // 2),
            nn.ReLU(),
        ]
        maps //= 2
    layers += [nn.ConvTranspose2d(maps, config.channels, kernel_size=4, stride=2, padding=1), nn.Tanh()]
    return ClassSequential(*layers, embedding=config.label_dim) if config.num_classes else nn.Sequential(*layers)


def downsampler(config: ModelConfig, *, spectral: bool) -> nn.Sequential:
    """Stride-2 convolutions from an image to a flat vector of `downsampled_size(config)`."""
    maps_in, maps = config.channels, config.width
    layers: list[nn.Module] = []
    for _ in range(_halvings(config)):
        layers += [
            maybe_spectral(nn.Conv2d(maps_in, maps, kernel_size=4, stride=2, padding=1), spectral),
            nn.LeakyReLU(0.2),
        ]
        maps_in, maps = maps, maps * 2
    return nn.Sequential(*layers, nn.Flatten())


def downsampled_size(config: ModelConfig) -> int:
    """Length of the vector that `downsampler` returns."""
    halvings = _halvings(config)
    side = config.image_size // 2**halvings
    return int(config.width * 2 ** (halvings - 1) * side * side)


def _halvings(config: ModelConfig) -> int:
    return 2 if config.image_size == 28 else int(math.log2(config.image_size // 4))


DCGAN = Family(kind="gan", generator=DcganGenerator, auxiliary=DcganDiscriminator, default_loss="non-saturating")
