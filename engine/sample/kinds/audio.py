"""Audio: any series over one axis.

Shape suffixes: B samples, L length, C channels, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds import sheets
from gen_engine.engine.sample.kinds.contract import Kind

_WIDTH = 2 * sheets.SIDE
"""Size of a waveform in the preview, in pixels."""


class Audio(Kind):
    """[length, channels], float32: the generator's own values."""

    name = "audio"
    axes = ("length", "channels")
    dtypes = ("float32",)
    form = "media"
    caption = "The first samples as waveforms, the first channel of each, all on one scale"
    labelled_task = "audio-classification"

    def reduce(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the envelope of the first channel: its minimum and maximum in each column, [B, 2, W]."""
        wave_BL = values[:, :, 0]
        length = wave_BL.shape[1]
        if length < _WIDTH:
            at = np.linspace(0, length - 1, _WIDTH)
            wave_BL = np.stack([np.interp(at, np.arange(length), wave_L) for wave_L in wave_BL])
            length = _WIDTH
        starts = np.arange(_WIDTH) * length // _WIDTH
        low = np.minimum.reduceat(wave_BL, starts, axis=1)
        high = np.maximum.reduceat(wave_BL, starts, axis=1)
        # Each column extends to the previous one, so that a steep line has no gaps.
        low[:, 1:], high[:, 1:] = np.minimum(low[:, 1:], high[:, :-1]), np.maximum(high[:, 1:], low[:, :-1])
        return np.stack([low, high], axis=1)

    def sheet(self, reduced: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw the envelopes as dark lines, the maximum of all values at the top."""
        level = sheets.in_range(reduced, axes=(0, 1, 2)).astype(int) * (sheets.SIDE - 1) // 255
        row_H1 = np.arange(sheets.SIDE - 1, -1, -1)[:, None]
        inside = (row_H1 >= level[:, 0, None]) & (row_H1 <= level[:, 1, None])
        return sheets.tile(np.where(inside, sheets.INK, sheets.PAPER).astype(np.uint8)[..., None])
