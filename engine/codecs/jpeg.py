"""JPEG through libjpeg-turbo (the package simplejpeg).

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np

from gen_engine.engine.errors import RequestError, WriterUnavailable
from gen_engine.engine.sample.modalities import Pixels

COLOUR_SPACES = {1: ("GRAY", "Gray"), 3: ("RGB", "444")}
"""Channels to simplejpeg's colour space and chroma subsampling: none, since small pictures show it."""


class JpegCodec:
    """Lossy and small; grey and RGB.

    Args:
        quality: libjpeg's, 1 to 100.

    Raises:
        WriterUnavailable: simplejpeg is not installed.
        RequestError: there is no such quality.
    """

    name = "jpeg"
    extension = "jpg"
    pictures_only = True

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

    def encode(self, pixels_BHWC: Pixels) -> list[bytes]:
        """Return one JPEG file a picture.

        Raises:
            RequestError: the pictures are neither grey nor RGB.
        """
        channels = pixels_BHWC.shape[3]
        if channels not in COLOUR_SPACES:
            raise RequestError(f"jpeg holds 1 or 3 channels, and these samples have {channels}: use --codec png or raw")
        colours, subsampling = COLOUR_SPACES[channels]
        return [
            self._simplejpeg.encode_jpeg(picture, self._quality, colours, subsampling, fastdct=False)
            for picture in np.ascontiguousarray(pixels_BHWC)
        ]
