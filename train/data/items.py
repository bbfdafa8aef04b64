"""The images of a source, by their place in it: what the decoder of all sources reads (`gen_engine.train.data.images`).

Legend: H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from gen_engine.train.data.array_image import ImageArray
from gen_engine.train.data.image_file import Header, ImageBytes, read_header, read_values
from gen_engine.train.data.names import shown
from gen_engine.train.errors import DataError

Source: TypeAlias = Path | ImageBytes | ImageArray


class SourceDamaged(DataError):
    """The file that holds the images is damaged, so that none that follows can be read either."""


class Items(ABC):
    """Images that are read one at a time; they are asked for in ascending order, several times."""

    noun = "files"
    """What messages count."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, at: int) -> str:
        """Where an image is, for messages."""

    @abstractmethod
    def load(self, at: int) -> Source:
        """The image, still encoded; DataError, without the name, when it cannot be read; SourceDamaged."""

    def header(self, at: int, max_pixels: int) -> tuple[Header, tuple[str, ...]]:
        """What is known without decoding it, and warnings; DataError saying why it is not an image."""
        source = self.load(at)
        if isinstance(source, ImageArray):
            return source.header(max_pixels), ()
        return read_header(source, max_pixels)

    def values(self, at: int, header: Header) -> NDArray[Any]:
        """Its values as stored, [H, W] or [H, W, 3]; DataError when it is damaged or changed."""
        source = self.load(at)
        if not isinstance(source, ImageArray):
            return read_values(source, header)
        values = source.upright()
        if (values.shape[1], values.shape[0]) != header.size or (values.ndim == 2) != header.grey:
            raise DataError("it changed while it was read")
        return values


class Files(Items):
    """Image files, or their bytes."""

    def __init__(self, files: Sequence[Path | ImageBytes]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def name(self, at: int) -> str:
        """The path."""
        return shown(self._files[at])

    def load(self, at: int) -> Path | ImageBytes:
        """The path, or the bytes."""
        return self._files[at]
