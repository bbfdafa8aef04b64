"""Whether a compiled core draws the latents that it must: asked once, before it is used.

A compiler that fuses a product and a sum into one operation rounds once instead of twice, which changes a third of all
latents. The build forbids it (``-ffp-contract=off``); a core that was built otherwise is found here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.native.contract import Core

_SEED, _STREAM, _SAMPLE = 0x0123456789ABCDEF, 1, 3

_WORDS = (0x2202254AD349FCEB, 0xA7AFA9BD123386AA, 0x72BE477F9B8E6237, 0xE68691213615FA2F)
"""Block 3 of Philox4x64-10 under that key, by its definition."""


def draws_wrongly(core: Core) -> bool:
    """Return whether a core draws other latents than NumPy from one block of words. Takes about 20 µs.

    Every latent is ``x * (1 / x) - 1``: rounded twice, a multiple of 2**-24; rounded once, the error of ``1 / x``.
    """
    x = (np.array(_WORDS, "<u8").view("<i4") | 1).astype(np.float32)
    segment = x.view(np.uint32) >> 15
    lines: NDArray[np.float32] = np.zeros((1 << 17, 2), np.float32)  # costs only the pages that are touched
    lines[segment, 0], lines[segment, 1] = -1, 1 / x
    drawn = np.empty_like(x)
    core.draw_latents(_SEED, _STREAM, _SAMPLE, 1, x.size, lines, drawn)
    return bool(drawn.tobytes() != (lines[segment, 1] * x + lines[segment, 0]).tobytes())
