"""A grid of samples as a PNG: the same latents every time, so that images of successive epochs compare.

Legend: B batch, Z latent dimensions, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen_engine.engine.base.levels import to_levels
from gen_engine.train.data.pillow import pillow_image
from gen_engine.train.models import Generator

COLUMNS = 10
ROWS = 8
"""Rows of an unconditional grid; a conditional one has a row per class."""

CLASSES_SHOWN = 32


def write_preview(generator: Generator, path: Path, device: torch.device) -> None:
    """Write a grid of the generator's samples (in eval mode, which it leaves as it was)."""
    z_BZ, labels_B = preview_inputs(generator)
    was_training = generator.training
    generator.eval()
    with torch.no_grad():
        labels = None if labels_B is None else labels_B.to(device)
        images_BCHW = generator(z_BZ.to(device), labels).cpu()
    generator.train(was_training)
    grid_HWC = tile(to_uint8(images_BCHW), COLUMNS)
    image = pillow_image().fromarray(grid_HWC[..., 0] if grid_HWC.shape[2] == 1 else grid_HWC)
    temporary = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)  # a link that someone put there would be written through
    image.save(temporary, format="PNG")
    temporary.replace(path)


def preview_inputs(generator: Generator) -> tuple[Tensor, Tensor | None]:
    """Fixed latents float32 [B, Z], and labels int64 [B] with one class per row, or None."""
    rows = min(generator.num_classes, CLASSES_SHOWN) or ROWS
    rng = torch.Generator().manual_seed(0)
    z_BZ = torch.randn(rows * COLUMNS, generator.latent_dim, generator=rng)
    if not generator.num_classes:
        return z_BZ, None
    return z_BZ, torch.arange(rows).repeat_interleave(COLUMNS)


def to_uint8(images_BCHW: Tensor) -> NDArray[np.uint8]:
    """uint8 [B, H, W, C] from [-1, 1], by the mapping that the exported graph has."""
    scaled = to_levels(images_BCHW).to(torch.uint8)
    pixels: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def tile(images_BHWC: NDArray[np.uint8], columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """One uint8 [H, W, 1 or 3] image, `gap` white pixels between images; other channel counts show the first."""
    if images_BHWC.shape[3] not in (1, 3):
        images_BHWC = images_BHWC[..., :1]
    count, height, width, channels = images_BHWC.shape
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    grid = np.full(shape, 255, np.uint8)
    for index, image in enumerate(images_BHWC):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid
