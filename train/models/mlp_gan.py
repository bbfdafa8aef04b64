"""The GAN of Goodfellow et al. 2014 with dense layers: z → 256 → H·W·C, and a discriminator with one hidden layer.

Legend: B batch, F features, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from gen_engine.train.models.config import ModelConfig
from gen_engine.train.models.contract import Discriminator, Family, Generator, flat_size


class MlpGenerator(Generator):
    """One hidden layer with ReLU, tanh output; also the decoder of the dense VAE."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(
            nn.Linear(self.input_dim, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, flat_size(config.image_shape)),
            nn.Tanh(),
            nn.Unflatten(1, config.image_shape),
        )

    def decode(self, h_BF: Tensor) -> Tensor:
        """Images_BCHW in [-1, 1]."""
        images_BCHW: Tensor = self.layers(h_BF)
        return images_BCHW


class MlpDiscriminator(Discriminator):
    """One hidden layer with leaky ReLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.hidden, spectral=False)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(flat_size(config.image_shape), config.hidden), nn.LeakyReLU(0.2)
        )

    def features(self, images_BCHW: Tensor) -> Tensor:
        """h_BF with F = `hidden`."""
        h_BF: Tensor = self.layers(images_BCHW)
        return h_BF


MLP_GAN = Family(kind="gan", generator=MlpGenerator, auxiliary=MlpDiscriminator, default_loss="non-saturating")
