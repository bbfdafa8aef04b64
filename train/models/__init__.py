"""Model families: one module each, registered by name in `gen_engine.train.families`."""

from __future__ import annotations

import torch
from torch import nn

from gen_engine.train.errors import ConfigError
from gen_engine.train.families import MODELS
from gen_engine.train.models.config import IMAGE_SIZES, ModelConfig
from gen_engine.train.models.contract import Family, Generator

__all__ = [
    "IMAGE_SIZES",
    "MODELS",
    "Family",
    "Generator",
    "ModelConfig",
    "build_auxiliary",
    "build_generator",
    "count_parameters",
    "family_of",
]


def family_of(name: str) -> Family:
    """The family of this name; ConfigError naming the value and the choices."""
    family = MODELS.load(name)
    if not isinstance(family, Family):
        raise ConfigError(
            f"model {name!r} is registered as {MODELS[name]}, which is not a gen_engine.train.models.Family"
        )
    return family


def build_generator(config: ModelConfig) -> Generator:
    """A freshly initialised generator (or decoder) alone: all that export and sampling need."""
    return family_of(config.family).generator(config)


def build_auxiliary(config: ModelConfig) -> nn.Module:
    """The discriminator (GAN) or encoder (VAE) that belongs to this model."""
    return family_of(config.family).auxiliary(config)


def count_parameters(config: ModelConfig) -> int:
    """Parameters of both networks together, counted without allocating them."""
    with torch.device("meta"):
        networks = (build_generator(config), build_auxiliary(config))
    return sum(parameter.numel() for network in networks for parameter in network.parameters())
