"""Preview sheets: tiles in rows of ten, and values mapped to grey levels.

Shape suffixes: B samples, D features, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = 10
SIDE = 56
"""Smaller images are enlarged by whole pixels to about this many."""

PAPER, INK = 238, 40
_MARGIN = 2


def in_range(values: NDArray[Any], *, axes: tuple[int, ...]) -> NDArray[np.uint8]:
    """Map the minimum over ``axes`` to 0 and the maximum to 255; where all are equal, and NaN, to the middle."""
    wide = values.astype(np.float64)  # the range of float32 values may exceed float32
    low, high = np.fmin.reduce(wide, axes, keepdims=True), np.fmax.reduce(wide, axes, keepdims=True)
    share = np.divide(wide - low, high - low, out=np.full_like(wide, 0.5), where=(high > low) & ~np.isnan(wide))
    levels: NDArray[np.uint8] = np.round(255 * share).astype(np.uint8)
    return levels


def tile(images_BHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the images in rows of ten on white; of channel counts that PNG does not have, the first channel."""
    count, height, width, channels = images_BHWC.shape
    if channels not in (1, 2, 3, 4):
        images_BHWC, channels = images_BHWC[..., :1], 1
    scale = max(1, SIDE // max(height, width))
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    cell_height, cell_width = height * scale + _MARGIN, width * scale + _MARGIN
    sheet = np.full((rows * cell_height + _MARGIN, columns * cell_width + _MARGIN, channels), 255, np.uint8)
    for i, image in enumerate(images_BHWC):
        top, left = (i // columns) * cell_height + _MARGIN, (i % columns) * cell_width + _MARGIN
        large = image.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top : top + height * scale, left : left + width * scale] = large
    return sheet


def table(rows_BD: NDArray[Any]) -> NDArray[np.uint8]:
    """Return rows of features as an image of about the size of the other previews: [H, W, 1].

    A missing value, which is NaN, is a chequered cell.
    """
    count, features = rows_BD.shape
    tall = min(SIDE, max(1, COLUMNS * SIDE // count))
    wide = min(SIDE, max(1, COLUMNS * SIDE // features))
    sheet_HW = in_range(rows_BD, axes=(0,)).repeat(tall, axis=0).repeat(wide, axis=1)
    missing_HW = np.isnan(rows_BD).repeat(tall, axis=0).repeat(wide, axis=1)
    down, across = np.indices(sheet_HW.shape)
    sheet_HW[missing_HW] = np.where((down + across) % 2, INK, 255)[missing_HW]
    return sheet_HW[..., None]
