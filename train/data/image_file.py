"""One image file: what its header states, and its values as stored. Legend: H height, W width, C channels.

Each of Pillow's modes has a kind of value, and each kind its mapping to pixels (`gen_engine.train.data.values`):

| mode | kind | values |
|---|---|---|
| 1 | 1-bit | 0 and 1 |
| L, LA, La | uint8 (int8 in a TIFF that says so) | grey; alpha is left out |
| P, PA | uint8 | the palette's colours |
| RGB, RGBA, RGBX, RGBa, CMYK, YCbCr, HSV, LAB | uint8 | converted to RGB; alpha is left out |
| RGB, RGBA with 16 bits per channel | uint16 | RGB; alpha is left out |
| I;16, I;16B, I;16L, I;16N | uint16 | grey |
| I | int16, int32 or uint32, as the file says | grey |
| F | float32 | grey |

Any other mode is refused with its name.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import IMAGE, open_regular
from gen_engine.train.data.pillow import lenient_metadata, own_limits, pillow_image, readable_formats
from gen_engine.train.errors import DataError

GREY_8 = frozenset({"L", "LA", "La"})
COLOUR_8 = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"})
_ORIENTATION, _PHOTOMETRIC, _SAMPLE_FORMAT = 0x0112, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2


@dataclass(frozen=True, eq=False)
class ImageBytes(os.PathLike[str]):
    """An encoded image that a file of another format holds, such as a member of a tar."""

    name: str
    """Where it is, for messages."""

    data: bytes

    def __fspath__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file states about its image, without decoding it."""

    size: tuple[int, int]
    """Width and height in pixels, as stored."""

    mode: str
    """Pillow's name for the layout."""

    kind: str
    """What its values are: a key of the table above."""

    grey: bool
    """Whether it has one channel."""

    several: bool
    """Whether the file holds more images (frames, pages), of which the first is read."""


def read_header(path: Path | ImageBytes, max_pixels: int) -> tuple[Header, tuple[str, ...]]:
    """The header and Pillow's warnings; DataError saying why the file is not an image that can be read."""
    with _opened(path) as (image, warned):
        width, height = image.size
        if width * height > max_pixels:
            raise DataError(f"{width}×{height} pixels, more than --max-image-pixels {max_pixels}")
        kind = _kind(image)
        grey = image.mode not in COLOUR_8
        several = False
        with suppress(Exception):  # counting frames reads on, and what follows the first image may be damaged
            several = bool(getattr(image, "is_animated", False))
        header = Header(size=image.size, mode=image.mode, kind=kind, grey=grey, several=several)
        return header, tuple(str(one.message).strip() for one in warned)


def read_values(path: Path | ImageBytes, header: Header) -> NDArray[Any]:
    """The values of the (first) image, upright, in the dtype of their kind: [H, W], or [H, W, 3] for colour.

    DataError when the file is damaged or has changed since its header was read.
    """
    values = _decode(path, header)
    if header.kind == "uint16" and not header.grey:
        values = values.astype(np.uint16)
        values <<= 8
        values |= _decode(path, header, low_bytes=True)
    return values


def _decode(path: Path | ImageBytes, header: Header, *, low_bytes: bool = False) -> NDArray[Any]:
    with _opened(path) as (image, _):
        if (image.size, image.mode, _kind(image)) != (header.size, header.mode, header.kind):
            raise DataError("it changed while it was read")
        if low_bytes:
            _take_low_bytes(image)
        return _upright_values(image, header)


@contextmanager
def _opened(path: Path | ImageBytes) -> Iterator[tuple[Any, list[Any]]]:
    """An open image and the warnings so far; whatever Pillow raises on a damaged file becomes DataError."""
    image_module = pillow_image()
    try:
        with own_limits() as warned, _open(path) as file:
            with lenient_metadata():
                image = image_module.open(file, formats=readable_formats())
            with image:
                yield image, warned
    except DataError:
        raise
    except Exception as error:  # plugins raise OSError, SyntaxError, struct.error, IndexError, … on damaged files
        raise DataError(_reason(error)) from error


def _open(path: Path | ImageBytes) -> BinaryIO:
    return open_regular(path, IMAGE) if isinstance(path, Path) else io.BytesIO(path.data)


def _kind(image: Any) -> str:
    mode: str = image.mode
    if mode == "1":
        return "1-bit"
    tags = getattr(image, "tag_v2", {})
    signed = _SIGNED in _tuple(tags.get(_SAMPLE_FORMAT, ()))
    if mode in GREY_8:
        return "int8" if signed else "uint8"
    if mode in COLOUR_8:
        return "uint16" if _low_byte_mode(image) else "uint8"
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise DataError(f"it is a TIFF whose 0 is white, in mode {mode}: convert it to one whose 0 is black")
    if mode.startswith("I;16"):
        return "uint16"
    if mode == "I":
        return _integer_kind(image, signed)
    if mode == "F":
        return "float32"
    raise DataError(f"its mode {mode} has no mapping to grey or RGB: convert it first")


def _integer_kind(image: Any, signed: bool) -> str:
    raw = _raw_mode(image)
    if raw.startswith("I;16"):
        return "int16" if "S" in raw else "uint16"
    if raw.startswith("I;32") and image.format == "TIFF":
        return "int32" if signed else "uint32"
    return "int32"


def _upright_values(image: Any, header: Header) -> NDArray[Any]:
    """Decode, convert colours to RGB, and follow the orientation tag."""
    image.load()
    turned = _turned(image)
    if header.kind == "1-bit":
        return np.asarray(turned).astype(np.uint8)
    if header.grey:
        values: NDArray[Any] = np.asarray(turned.convert("LA").convert("L") if turned.mode == "La" else _first(turned))
        views = {"int8": np.int8, "uint32": np.uint32}
        return values.view(views[header.kind]) if header.kind in views else values
    if turned.mode == "LAB":
        turned = _lab_to_rgb(turned)
    return np.asarray(turned if turned.mode == "RGB" else turned.convert("RGB"))


def _first(image: Any) -> Any:
    return image.convert("L") if image.mode == "LA" else image


def _turned(image: Any) -> Any:
    """The image in its EXIF orientation; as stored where the EXIF is damaged, which is metadata only."""
    transpose = pillow_image().Transpose
    methods = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_90,
    }
    method = None
    with suppress(Exception):
        method = methods.get(image.getexif().get(_ORIENTATION))
    return image if method is None else image.transpose(method)


def _lab_to_rgb(image: Any) -> Any:
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")


def _raw_mode(image: Any) -> str:
    """How the first tile's bytes are laid out, in Pillow's terms; "" where the format does not state it."""
    tiles = getattr(image, "tile", None) or [None]
    args = getattr(tiles[0], "args", "")
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def _low_byte_mode(image: Any) -> str:
    """The raw mode that reads the low byte of each 16-bit channel, where Pillow's own reads the high one; or ""."""
    raw = _raw_mode(image)
    layout, _, order = raw.partition(";")
    if layout not in ("RGB", "RGBA", "RGBX") or order not in ("16B", "16L", "16N"):
        return ""
    little = order == "16L" or (order == "16N" and struct.pack("=H", 1)[0] == 1)
    return f"{layout};16B" if little else f"{layout};16L"


def _take_low_bytes(image: Any) -> None:
    low = _low_byte_mode(image)
    for index, tile in enumerate(image.tile):
        args = (low, *tile.args[1:]) if isinstance(tile.args, tuple) else low
        image.tile[index] = tile._replace(args=args)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).split("\n")[0]
    return "not an image that Pillow knows" if "cannot identify image file" in text else text or repr(error)
