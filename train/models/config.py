"""What a network is built from."""

from __future__ import annotations

from dataclasses import dataclass

from gen_engine.train.errors import ConfigError
from gen_engine.train.options import IMAGE_SIZES, NetworkOptions, check_image_size, flag_name

__all__ = ["IMAGE_SIZES", "ModelConfig"]

MAX_DIM = 65_536
"""Largest value of any dimension: beyond it no machine could hold the weights."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(NetworkOptions):
    """Everything that fixes the shapes of a model's weights; raises ConfigError when a value cannot be built."""

    family: str
    """A name in `gen_engine.train.families.MODELS`."""

    image_size: int
    """Height and width in pixels: 28, 32, 64 or 128."""

    channels: int = 1
    """Image channels C, any positive number."""

    num_classes: int = 0
    """Number of classes the model is conditioned on; 0 builds an unconditional model."""

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        for name in ("channels", "latent_dim", "label_dim", "width", "hidden"):
            value = getattr(self, name)
            if not 1 <= value <= MAX_DIM:
                raise ConfigError(f"{flag_name(name)} is {value}: it must be 1 to {MAX_DIM:,}")
        if self.conditioning not in ("projection", "auxiliary", "both"):
            raise ConfigError(f"conditioning is {self.conditioning!r}: use projection, auxiliary or both")
        if self.num_classes < 0:
            raise ConfigError(f"num-classes is {self.num_classes}: it must be 0 (unconditional) or more")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.image_size, self.image_size)
