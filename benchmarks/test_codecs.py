"""Codecs against the usual library, on one core. Work: the bytes of the pixels. Limit: a memory copy of as many."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from limits import memory_copy
from numpy.typing import NDArray
from PIL import Image

from gen_engine.engine.codecs import open_codec


def generated(count: int, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Return images like a generator's: smooth, with noise of about two grey levels."""
    rng = np.random.default_rng(0)
    images = []
    for coarse in rng.integers(0, 256, (count, 7, 7, channels), dtype=np.uint8):
        planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC) for plane in coarse.T]
        images.append(np.stack([np.asarray(plane) for plane in planes], axis=2))
    noisy = np.stack(images) + rng.normal(0, 2, (count, height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def pillow(pixels: NDArray[np.uint8], kind: str, **options: Any) -> list[bytes]:
    files = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, kind, **options)
        files.append(file.getvalue())
    return files


SHAPES = {(28, 28, 1): 60, (32, 32, 3): 35, (64, 64, 3): 35, (128, 128, 3): 30}
"""Images, and how many times as fast as Pillow they are required to be encoded."""


@pytest.mark.parametrize(("shape", "at_least"), SHAPES.items())
def test_png(against, shape: tuple[int, int, int], at_least: float) -> None:
    """Unit: 500 images per round. Peer: Pillow at level 1, whose sizes are compared too."""
    pixels = generated(500 if against.real else 20, *shape)
    codec = open_codec("png")
    ratios = against(
        lambda: codec.encode(pixels),
        lambda: pillow(pixels, "PNG", compress_level=1),
        rounds=10,
        limit=memory_copy(),
        work=pixels.nbytes,
    )
    against.require_ratio("PNG speed over Pillow's, level 1", ratios, at_least=at_least)
    ours, theirs = codec.encode(pixels).pieces(), pillow(pixels, "PNG", compress_level=1)
    against.require(
        "PNG size over Pillow's, level 1",
        sum(map(len, ours)) / sum(map(len, theirs)),
        at_most=1.2 if shape == (28, 28, 1) else 1.0,
    )


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3)])
def test_jpeg(against, shape: tuple[int, int, int]) -> None:
    """Unit: 500 images per round. Peer: Pillow at the same quality, 95, and with no chroma subsampling either."""
    pixels = generated(500 if against.real else 20, *shape)
    codec = open_codec("jpeg")
    options = {"quality": 95, "subsampling": 0}
    ratios = against(
        lambda: codec.encode(pixels),
        lambda: pillow(pixels, "JPEG", **options),
        rounds=10,
        limit=memory_copy(),
        work=pixels.nbytes,
    )
    against.require_ratio("JPEG speed over Pillow's, quality 95", ratios, at_least=1.5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3)])
def test_raw(against, shape: tuple[int, int, int]) -> None:
    """Unit: 500 images per round. Peer: np.save into memory."""
    pixels = generated(500 if against.real else 20, *shape)
    codec = open_codec("raw")
    ratios = against(
        lambda: codec.encode(pixels),
        lambda: [np.save(io.BytesIO(), p) for p in pixels],
        rounds=10,
        limit=memory_copy(),
        work=pixels.nbytes,
    )
    against.require_ratio("raw speed over np.save's", ratios, at_least=1.5)
