"""JPEG through libjpeg-turbo (the package simplejpeg).

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError, WriterUnavailable
from gen_engine.engine.sample.schema import Field, Ragged

COLOUR_SPACES = {1: ("GRAY", "Gray"), 3: ("RGB", "444")}
"""Channels to simplejpeg's colour space and chroma subsampling: none, since it is visible in small images."""


class JpegCodec:
    """Lossy and small; 8 bits per channel, grey and RGB.

    Args:
        quality: libjpeg's, 1 to 100.

    Raises:
        WriterUnavailable: simplejpeg is not installed.
        RequestError: the quality is out of range.
    """

    name = "jpeg"
    extension = "jpg"
    kinds = frozenset({"image"})

    def __init__(self, quality: int = 95) -> None:
        if not 1 <= quality <= 100:
            raise RequestError(f"JPEG quality is 1 to 100, not {quality}")
        try:
            import simplejpeg
        except ImportError as error:
            raise WriterUnavailable(
                f"codec jpeg needs simplejpeg ({error}): pip install 'gen-engine[jpeg]', or use --codec png"
            ) from error
        self._simplejpeg = simplejpeg
        self._quality = quality

    @property
    def identity(self) -> str:
        """Name, quality, subsampling and the version of simplejpeg, which carries its own libjpeg-turbo."""
        return f"jpeg/q{self._quality}-444/simplejpeg-{self._simplejpeg.__version__}"

    def encode(self, values_B: NDArray[Any]) -> Ragged:
        """Return one JPEG file per image.

        Raises:
            RequestError: the images are neither grey nor RGB, or have 16 bits per channel.
        """
        channels = values_B.shape[3]
        if channels not in COLOUR_SPACES:
            raise RequestError(f"jpeg holds 1 or 3 channels, and these samples have {channels}: use --codec png or raw")
        if values_B.dtype != np.uint8:
            raise RequestError(
                f"jpeg holds 8 bits per channel, and these samples are {values_B.dtype}: use --codec png or raw"
            )
        colours, subsampling = COLOUR_SPACES[channels]
        return Ragged.of_pieces(
            [
                self._simplejpeg.encode_jpeg(image, self._quality, colours, subsampling, fastdct=False)
                for image in np.ascontiguousarray(values_B)
            ]
        )

    def decode(self, data: bytes, field: Field) -> NDArray[np.uint8]:
        """Return an image, uint8 [H, W, C].

        Raises:
            ValueError: it is damaged, or has another size or colour space than the field's.
        """
        height, width, channels = field.sizes
        if field.dtype != "uint8" or channels not in COLOUR_SPACES:
            raise ValueError(f"a JPEG file does not hold {field.dtype} with {channels} channels")
        colours, _ = COLOUR_SPACES[channels]
        # The header first: decoding allocates memory for the size that it states.
        stated_height, stated_width, stated_colours, _ = self._simplejpeg.decode_jpeg_header(data, strict=True)
        if (stated_height, stated_width) != (height, width) or (stated_colours == "Gray") != (channels == 1):
            raise ValueError(
                f"a JPEG file of {stated_height} × {stated_width}, {stated_colours}; {height} × {width} with "
                f"{channels} channels is due"
            )
        image: NDArray[np.uint8] = self._simplejpeg.decode_jpeg(data, colours, strict=True)
        return image
