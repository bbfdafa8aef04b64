"""Resizing of arrays with any number of channels. Legend: N images, H height, W width, C channels, S new side."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

CHUNK = 1024
"""Images resized at a time, to bound the float32 copies."""


def resized(images_NHWC: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """uint8 [N, S, S, C] by antialiased bilinear interpolation, and a note; both as given if the size fits."""
    count, height, width, channels = images_NHWC.shape
    if (height, width) == (side, side):
        return images_NHWC, ()
    result_NSSC = np.empty((count, side, side, channels), np.uint8)
    for start in range(0, count, CHUNK):
        part_NCHW = torch.from_numpy(images_NHWC[start : start + CHUNK].transpose(0, 3, 1, 2).astype(np.float32))
        larger = functional.interpolate(part_NCHW, size=(side, side), mode="bilinear", antialias=True)
        result_NSSC[start : start + CHUNK] = larger.round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    return result_NSSC, (f"all {count} images were resized from {height}×{width} to {side}×{side}",)
