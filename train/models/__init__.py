"""Model families: one file each, one row each in `MODELS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from gen_engine.train.errors import ConfigError
from gen_engine.train.models.config import IMAGE_SIZES, ModelConfig
from gen_engine.train.models.contract import Generator
from gen_engine.train.models.dcgan import DcganDiscriminator, DcganGenerator
from gen_engine.train.models.mlp_gan import MlpDiscriminator, MlpGenerator
from gen_engine.train.models.vae import conv_encoder, mlp_encoder

__all__ = ["IMAGE_SIZES", "MODELS", "Family", "Generator", "ModelConfig", "build_generator", "build_partner"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one family is built and trained."""

    kind: str
    """"gan" or "vae": which training step it takes."""

    generator: Callable[[ModelConfig], Generator]
    """The generator, or the VAE's decoder."""

    partner: Callable[[ModelConfig], nn.Module]
    """What it is trained against or with: a discriminator, or an encoder."""

    default_loss: str
    """A key of `gen_engine.train.objectives.losses.LOSSES`."""


MODELS: dict[str, Family] = {
    "mlp-gan": Family(kind="gan", generator=MlpGenerator, partner=MlpDiscriminator, default_loss="non-saturating"),
    "dcgan": Family(kind="gan", generator=DcganGenerator, partner=DcganDiscriminator, default_loss="non-saturating"),
    "mlp-vae": Family(kind="vae", generator=MlpGenerator, partner=mlp_encoder, default_loss="elbo"),
    "conv-vae": Family(kind="vae", generator=DcganGenerator, partner=conv_encoder, default_loss="elbo"),
}


def family_of(name: str) -> Family:
    """The row of `MODELS`; ConfigError naming the value and the choices."""
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}: use one of {', '.join(MODELS)}")
    return MODELS[name]


def build_generator(config: ModelConfig) -> Generator:
    """A freshly initialised generator (or decoder) alone: all that export and sampling need."""
    return family_of(config.family).generator(config)


def build_partner(config: ModelConfig) -> nn.Module:
    """The discriminator (GAN) or encoder (VAE) that belongs to this model."""
    return family_of(config.family).partner(config)
