"""Images that are stored as numbers, not as files: rows of a dataset or of Parquet, and .npy members of a tar.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from gen_engine.engine.base.npy import parse_npy
from gen_engine.train.data.image_file import Header, ImageBytes
from gen_engine.train.errors import DataError

NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, eq=False)
class ImageArray:
    """One image as numbers."""

    name: str
    """Where it is, for messages."""

    values: NDArray[Any]
    """[H, W], [H, W, C] or [C, H, W], C = 1 or 3."""

    def header(self, max_pixels: int) -> Header:
        """What it holds; DataError when that is no image."""
        values = self.upright()
        kind = str(values.dtype.newbyteorder("="))
        if values.dtype.kind not in "fiub":
            raise DataError(f"its values are {values.dtype}: store integers, floats or booleans")
        height, width = values.shape[:2]
        if height * width > max_pixels:
            raise DataError(f"{width}×{height} pixels, more than --max-image-pixels {max_pixels}")
        grey = values.ndim == 2
        return Header(size=(width, height), mode="L" if grey else "RGB", kind=kind, grey=grey, several=False)

    def upright(self) -> NDArray[Any]:
        """[H, W], or [H, W, 3] for colour; DataError when the shape has another meaning, or two."""
        values = self.values
        shape = list(values.shape)
        if values.size and values.ndim == 2:
            return values
        last, first = (values.ndim == 3 and shape[axis] in (1, 3) for axis in (2, 0))
        if not values.size or last == first:
            why = "which axis holds the channels is not clear" if last and first else "it is no image"
            raise DataError(f"its shape is {shape}, so {why}: store [H, W], [H, W, C] or [C, H, W], C 1 or 3")
        if first:
            values = values.transpose(1, 2, 0)
        return values[..., 0] if values.shape[2] == 1 else values


def of_bytes(name: str, data: bytes) -> ImageBytes | ImageArray:
    """An encoded image, or the array that an .npy file holds; DataError when that file is damaged."""
    if not data.startswith(NPY_MAGIC):
        return ImageBytes(name, data)
    try:
        return ImageArray(name, parse_npy(data))
    except ValueError as error:
        raise DataError(f"it cannot be read as .npy ({error})") from error
