"""Pillow, imported when a picture is first read or written."""

from __future__ import annotations

from types import ModuleType

from gen_engine.train.errors import Unavailable


def pillow_image() -> ModuleType:
    """The module PIL.Image; Unavailable saying what to install when it is missing."""
    try:
        from PIL import Image
    except ImportError as error:
        raise Unavailable("reading or writing pictures needs Pillow: pip install 'gen-engine[train]'") from error
    return Image


def pillow_ops() -> ModuleType:
    """The module PIL.ImageOps, on the same terms."""
    pillow_image()
    from PIL import ImageOps

    return ImageOps
