"""The preview of a dataset: its first samples in one image, whatever their modality.

Shape suffixes: B samples, L length, D depth or features, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.png import ZlibPngCodec
from gen_engine.engine.sample.modalities import Pixels

SAMPLES = 100
COLUMNS = 10
_MARGIN = 2
_SIDE = 56  # smaller images are enlarged by whole pixels to about this many
_WAVE = 2 * _SIDE  # a waveform's width
_FEATURES = COLUMNS * _WAVE  # of a wider vector the rest is not shown
_PAPER, _INK = 238, 40


def preview(batches: Iterable[Pixels], modality: str) -> bytes:
    """Return a PNG that shows samples in order.

    - images and, of volumes, the middle slices across the depth are in rows of ten, enlarged by whole pixels;
      channel counts that PNG does not know are shown by their first channel. A slice's least value is black and its
      greatest white.
    - audio is drawn as waveforms in rows of ten, the first channel of each, all on one scale.
    - vectors are one row each, a column a feature: the least value that is shown of a feature is black, the greatest
      white.

    Args:
        batches: consecutive samples, as they are stored; each array is used before the next is requested.
        modality: one of :data:`gen_engine.engine.sample.modalities.MODALITIES`.
    """
    parts = [_reduce(batch, modality) for batch in batches]
    shown = np.concatenate(parts)
    if modality == "audio":
        shown = _waveforms(shown)
    if modality == "vector":
        sheet = _table(shown)
    else:
        sheet = _sheet(_in_range(shown, axes=(1, 2, 3)) if modality == "volume" else shown)
    return ZlibPngCodec().encode(sheet[None])[0]


def _reduce(batch: Pixels, modality: str) -> NDArray[Any]:
    """Return a copy of what the preview needs of a batch: a hundred volumes may not fit into memory."""
    if modality == "audio":
        return _envelope(batch[:, :, 0])
    if modality == "volume":
        return batch[:, batch.shape[1] // 2].copy()
    return batch[:, :_FEATURES].copy() if modality == "vector" else batch.copy()


def _envelope(wave_BL: Pixels) -> NDArray[Any]:
    """Return the least and the greatest value in each of the columns of a waveform: [B, 2, columns]."""
    length = wave_BL.shape[1]
    if length < _WAVE:
        at = np.linspace(0, length - 1, _WAVE)
        wave_BL = np.stack([np.interp(at, np.arange(length), wave_L) for wave_L in wave_BL])
        length = _WAVE
    starts = np.arange(_WAVE) * length // _WAVE
    low = np.minimum.reduceat(wave_BL, starts, axis=1)
    high = np.maximum.reduceat(wave_BL, starts, axis=1)
    # Each column reaches to where the one before it was, so that a steep line has no gaps.
    low[:, 1:], high[:, 1:] = np.minimum(low[:, 1:], high[:, :-1]), np.maximum(high[:, 1:], low[:, :-1])
    return np.stack([low, high], axis=1)


def _waveforms(envelope_B2W: NDArray[Any]) -> NDArray[np.uint8]:
    """Draw envelopes as dark lines, the greatest of all values at the top: [B, H, W, 1]."""
    level = _in_range(envelope_B2W, axes=(0, 1, 2)).astype(int) * (_SIDE - 1) // 255
    row_H1 = np.arange(_SIDE - 1, -1, -1)[:, None]
    inside = (row_H1 >= level[:, 0, None]) & (row_H1 <= level[:, 1, None])
    return np.where(inside, _INK, _PAPER).astype(np.uint8)[..., None]


def _table(rows_BD: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the rows as an image of about the size of the other previews: [H, W, 1]."""
    count, features = rows_BD.shape
    tall = min(_SIDE, max(1, COLUMNS * _SIDE // count))
    wide = min(_SIDE, max(1, COLUMNS * _SIDE // features))
    return _in_range(rows_BD, axes=(0,)).repeat(tall, axis=0).repeat(wide, axis=1)[..., None]


def _in_range(values: NDArray[Any], *, axes: tuple[int, ...]) -> NDArray[np.uint8]:
    """Map the least value over ``axes`` to 0 and the greatest to 255; where all are equal, to the middle."""
    wide = values.astype(np.float64)  # the greatest float32 less the least one has no place in float32
    low, high = wide.min(axis=axes, keepdims=True), wide.max(axis=axes, keepdims=True)
    share = np.divide(wide - low, high - low, out=np.full_like(wide, 0.5), where=high > low)
    levels: NDArray[np.uint8] = np.round(255 * share).astype(np.uint8)
    return levels


def _sheet(images_BHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the images in rows of ten on white."""
    count, height, width, channels = images_BHWC.shape
    if channels not in (1, 2, 3, 4):
        images_BHWC, channels = images_BHWC[..., :1], 1
    scale = max(1, _SIDE // max(height, width))
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    cell_height, cell_width = height * scale + _MARGIN, width * scale + _MARGIN
    sheet = np.full((rows * cell_height + _MARGIN, columns * cell_width + _MARGIN, channels), 255, np.uint8)
    for i, image in enumerate(images_BHWC):
        top, left = (i // columns) * cell_height + _MARGIN, (i % columns) * cell_width + _MARGIN
        large = image.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top : top + height * scale, left : left + width * scale] = large
    return sheet
