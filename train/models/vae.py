"""Variational autoencoders (Kingma & Welling 2013), dense and convolutional; conditional as in Sohn et al. 2015.

The decoder is a GAN's generator (tanh output in [-1, 1]), trained differently, so it exports and samples the same way.
The conditional encoder sees the label's embedding beside the image's features, the decoder beside the latent.

Legend: B batch, Z latent dimensions, F features, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_engine.train.models.config import ModelConfig
from gen_engine.train.models.contract import Family, check_labels, flat_size
from gen_engine.train.models.dcgan import DcganGenerator, downsampled_size, downsampler
from gen_engine.train.models.mlp_gan import MlpGenerator


class Encoder(nn.Module):
    """`forward(images_BCHW, labels_B) -> (mean_BZ, log_variance_BZ)`, float32, Z the dimensions of a code."""

    def __init__(self, config: ModelConfig, trunk: nn.Module, features: int, code_dim: int | None = None) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.trunk = trunk
        self.label_embedding = nn.Embedding(config.num_classes, config.label_dim) if config.num_classes else None
        inputs = features + (config.label_dim if config.num_classes else 0)
        outputs = 2 * (config.latent_dim if code_dim is None else code_dim)
        self.head = nn.Sequential(nn.Linear(inputs, config.hidden), nn.ReLU(), nn.Linear(config.hidden, outputs))

    def forward(self, images_BCHW: Tensor, labels_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The posterior's mean and log variance; ValueError when labels are missing or not wanted."""
        check_labels(self.num_classes, labels_B)
        h_BF = self.trunk(images_BCHW)
        if self.label_embedding is not None:
            h_BF = torch.cat([h_BF, self.label_embedding(labels_B).to(h_BF.dtype)], dim=1)
        mean_BZ, log_variance_BZ = self.head(h_BF).float().chunk(2, dim=1)
        return mean_BZ, log_variance_BZ


def conv_encoder(config: ModelConfig) -> Encoder:
    """An encoder on the DCGAN discriminator's convolutions, without spectral normalisation."""
    return Encoder(config, downsampler(config, spectral=False), downsampled_size(config))


def mlp_encoder(config: ModelConfig) -> Encoder:
    """An encoder with one dense hidden layer on the flattened image."""
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(flat_size(config.image_shape), config.hidden), nn.ReLU())
    return Encoder(config, trunk, config.hidden)


MLP_VAE = Family(kind="vae", generator=MlpGenerator, auxiliary=mlp_encoder, default_loss="elbo")
CONV_VAE = Family(kind="vae", generator=DcganGenerator, auxiliary=conv_encoder, default_loss="elbo")
