"""What a data reader is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from gen_engine.train.errors import ConfigError
from gen_engine.train.models.config import IMAGE_SIZES


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """One request to one reader."""

    source: str
    """A data set's name or a path, as the user gave it."""

    image_size: int | None = None
    """Height and width wanted, in pixels; None keeps the data's own where a model can make it."""

    max_bad_share: float = 0.01
    """Share of a folder's files, in [0, 1], that may be unreadable before the reader refuses."""

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size not in IMAGE_SIZES:
            allowed = ", ".join(map(str, IMAGE_SIZES))
            raise ConfigError(f"image size {self.image_size} is not supported: use one of {allowed}")
        if not 0.0 <= self.max_bad_share <= 1.0:
            raise ConfigError(f"max-bad-share is {self.max_bad_share}: it must be 0 to 1")
