"""A generator that costs nothing: what a job's host path looks like from behind a GPU.

Its batches are ready when the job begins, and are handed over in turn. The images are smooth with a little noise, so
that they compress about as much as those of a GAN: zeros would measure no codec, and noise one that gives up.

Shape suffixes: B samples of a batch, N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends.contract import ExecutionStream, Values
from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.bundle import OutputSpec
from gen_engine.engine.identity.latents import Latents

DIFFERENT_BATCHES = 4
"""Batches that are handed over in turn."""

_MAX_READY_BYTES = 1 << 31

_IMAGE_BYTES, _MIN_IMAGES, _MAX_IMAGES = 1 << 25, 8, 1000
"""Size and number of the images that are made; those of larger batches repeat, which no codec can notice."""

_PIXELS_PER_WAVE = 16
"""Pixels per side between independent brightnesses."""

_CONTRAST, _NOISE = 30.0, 3.0
"""Standard deviations in levels, of the brightnesses and of each pixel. With them, PNGs of 28 × 28 × 1 have the size of
the shipped generator's."""


class FreeBackend:
    """A backend whose streams hand over ready batches; see :class:`~gen_engine.engine.backends.contract.Backend`.

    Args:
        output: what it makes: images of 8 bits.
        batch: samples per call.
        draws: whether its streams take the task of drawing latents, as those of a GPU do. They draw none.

    Raises:
        RequestError: the batches would take too much memory.
    """

    name, version, device, precision, engine = "free", "1", "none", "fp32", None

    def __init__(self, output: OutputSpec, batch: int, *, draws: bool) -> None:
        self.batch, ready_bytes = batch, DIFFERENT_BATCHES * batch * output.field.value_bytes
        if ready_bytes > _MAX_READY_BYTES:
            raise RequestError(
                f"batch {batch}: {DIFFERENT_BATCHES} batches of such samples have {ready_bytes / 1e9:,.1f} GB, and at "
                f"most {_MAX_READY_BYTES / 1e9:.1f} GB are kept ready; give a smaller --batch"
            )
        images = smooth_images(output.field.sizes)
        rows = np.arange(DIFFERENT_BATCHES * batch).reshape(DIFFERENT_BATCHES, batch) % len(images)
        self._batches: list[Values] = [{output.name: images[rows_B]} for rows_B in rows]
        self._stream = FreeDrawingStream if draws else FreeStream

    def open_stream(self) -> ExecutionStream:
        """Open one more stream; it begins with the first batch."""
        return self._stream(self._batches)


class FreeStream:
    """Hands over batches in turn, whatever their latents."""

    depth = 3
    """As on a GPU in TensorRT."""

    def __init__(self, batches: Sequence[Values]) -> None:
        self._turn = cycle(batches)

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        """Do nothing."""

    def collect(self) -> Values:
        """Return the next batch."""
        return next(self._turn)

    def close(self) -> None:
        """Do nothing."""


class FreeDrawingStream(FreeStream):
    """The same, from which no latents are copied."""

    def submit_samples(self, first: int, latents: Latents, labels_B: NDArray[np.int64] | None) -> None:
        """Do nothing."""


def smooth_images(shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return images that are smooth with a little noise, always the same: uint8 [N, height, width, channels]."""
    rng = np.random.default_rng(0)
    height, width, channels = shape
    images = min(max(_MIN_IMAGES, _IMAGE_BYTES // (height * width * channels)), _MAX_IMAGES)
    down, across = _interpolation(height), _interpolation(width)
    coarse = _CONTRAST * rng.standard_normal((images, channels, down.shape[1], across.shape[1]), np.float32)
    levels = 128 + down @ coarse @ across.T
    levels += _NOISE * rng.standard_normal(levels.shape, np.float32)
    return np.ascontiguousarray(np.moveaxis(levels.clip(0, 255).astype(np.uint8), 1, -1))


def _interpolation(pixels: int) -> NDArray[np.float32]:
    """Return the weights of linear interpolation from coarse points to pixels: float32 [pixels, points]."""
    points = 2 + pixels // _PIXELS_PER_WAVE
    at = np.linspace(0, points - 1, pixels, dtype=np.float32)
    weights: NDArray[np.float32] = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(points, dtype=np.float32)))
    return weights
