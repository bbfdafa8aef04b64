"""Autoencoders with the residual decoder of `gen_engine.train.models.residual` and a fitted prior.

`res-vae` is trained on the evidence lower bound. `vae-gan` has a discriminator besides (Larsen et al. 2016), without
which decoded images are blurred. Samples of both come from a prior of each class (`gen_engine.train.models.prior`).

Legend: B batch, Z dimensions of a code, F features, C channels, H height, W width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from gen_engine.train.models.config import ModelConfig
from gen_engine.train.models.contract import Family
from gen_engine.train.models.dcgan import DcganDiscriminator
from gen_engine.train.models.prior import PriorGenerator, code_dim
from gen_engine.train.models.residual import ResidualGenerator, start
from gen_engine.train.models.vae import Encoder

WIDEST = 8
"""Most maps of the encoder, in widths."""


class ResidualDecoder(ResidualGenerator, PriorGenerator):
    """Latents to a code of the class, and that to an image."""


class Critics(nn.Module):
    """What a `vae-gan` is trained with: `forward` is the encoder's, `discriminator` is called by name."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = residual_encoder(config)
        self.discriminator = DcganDiscriminator(config)

    def forward(self, images_BCHW: Tensor, labels_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The posterior's mean_BZ and log_variance_BZ; ValueError when labels are missing or not wanted."""
        posterior: tuple[Tensor, Tensor] = self.encoder(images_BCHW, labels_B)
        return posterior


def residual_encoder(config: ModelConfig) -> Encoder:
    """Strided convolutions with batch normalisation down to the decoder's smallest map, and one more there."""
    side, _ = start(config)
    maps_in = config.channels
    layers: list[nn.Module] = []
    for level in range(int(math.log2(config.image_size // side))):
        maps = config.width * min(2**level, WIDEST)
        layers.append(nn.Conv2d(maps_in, maps, kernel_size=4, stride=2, padding=1, bias=level == 0))
        layers += [nn.LeakyReLU(0.2)] if level == 0 else [nn.BatchNorm2d(maps), nn.LeakyReLU(0.2)]
        maps_in = maps
    layers += [nn.Conv2d(maps_in, maps_in, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(maps_in)]
    layers += [nn.LeakyReLU(0.2), nn.Flatten()]
    return Encoder(config, nn.Sequential(*layers), maps_in * side * side, code_dim(config))


RES_VAE = Family(kind="vae", generator=ResidualDecoder, auxiliary=residual_encoder, default_loss="sigma-elbo")
VAE_GAN = Family(kind="vae-gan", generator=ResidualDecoder, auxiliary=Critics, default_loss="sigma-elbo")
