"""What a network is built from."""

from __future__ import annotations

from dataclasses import dataclass

from gen_engine.train.errors import ConfigError

IMAGE_SIZES = (28, 32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that fixes the shapes of a model's weights; raises ConfigError when a value cannot be built."""

    family: str
    """A key of `gen_engine.train.models.MODELS`."""

    image_size: int
    """Height and width in pixels: 28, 32, 64 or 128."""

    channels: int = 1
    """Image channels C, any positive number."""

    num_classes: int = 0
    """Number of classes the model is conditioned on; 0 builds an unconditional model."""

    latent_dim: int = 100
    """Number of latent dimensions Z, drawn from a standard normal."""

    label_dim: int = 16
    """Length of the learned label embedding that is concatenated to the latent (conditional models)."""

    width: int = 64
    """Feature maps of the convolution next to the image (`ngf` and `ndf` of Radford et al. 2015)."""

    hidden: int = 256
    """Units of the hidden dense layer in the MLP families, and of the dense layer in convolutional partners."""

    def __post_init__(self) -> None:
        if self.image_size not in IMAGE_SIZES:
            allowed = ", ".join(map(str, IMAGE_SIZES))
            raise ConfigError(f"image size {self.image_size} is not supported: use one of {allowed}")
        for name in ("channels", "latent_dim", "label_dim", "width", "hidden"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name.replace('_', '-')} is {value}: it must be at least 1")
        if self.num_classes < 0:
            raise ConfigError(f"num-classes is {self.num_classes}: it must be 0 (unconditional) or more")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.image_size, self.image_size)
