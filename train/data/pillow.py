"""Pillow, imported when an image is first read or written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from gen_engine.engine.errors import BackendUnavailable

RUNS_PROGRAMS = frozenset({"EPS"})
"""Formats that Pillow decodes by running another program (Ghostscript), so they are not read."""

MAX_TEXT = 64 * 2**20
"""Bytes of text and profiles in one PNG, which is metadata. Pillow's own limit refuses whole images at a mebibyte."""


def pillow_image() -> ModuleType:
    """The module PIL.Image; BackendUnavailable saying what to install when it is missing."""
    try:
        from PIL import Image
    except ImportError as error:
        raise BackendUnavailable("reading or writing images needs Pillow: pip install 'gen-engine[train]'") from error
    return Image


def readable_formats() -> list[str]:
    """The formats that are read: all that Pillow decodes by itself."""
    image_module = pillow_image()
    image_module.init()
    return [name for name in image_module.OPEN if name not in RUNS_PROGRAMS]


@contextmanager
def lenient_metadata() -> Iterator[None]:
    """Inside, damage to a PNG's ancillary chunks does not stop an image from being opened; not for decoding."""
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def own_limits() -> Iterator[list[warnings.WarningMessage]]:
    """Inside, Pillow's limits on size are off, since ours hold, and its warnings are collected, not raised or shown."""
    image_module: Any = pillow_image()
    from PIL import PngImagePlugin

    before = (image_module.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    try:
        image_module.MAX_IMAGE_PIXELS = None
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield caught
    finally:
        image_module.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before


def pillow_version() -> str:
    """The version, since another may decode an image to other pixels."""
    return str(pillow_image().__version__)
