"""The images: moved by one interpolation, then their colours, then a rectangle that is painted over.

Everything is computed pixel by pixel, with no sum over an image or a batch: a sample has the same bits alone and
beside any others. Legend: B samples, C channels, H height, W width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gen_engine.engine.base.levels import from_levels, to_levels
from gen_engine.train.augment.options import Augmentation
from gen_engine.train.augment.parameters import Parameters, draw_parameters

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a pixel's grey (ITU-R BT.601)."""


def augment_batch(
    images_BCHW: Tensor, indices_B: Tensor | NDArray[np.int64], augmentation: Augmentation, seed: int
) -> Tensor:
    """Images, each changed by the parameters of its index.

    Args:
        images_BCHW: uint8 [B, C, H, W], or float in [-1, 1], as models are trained on, on any device.
        indices_B: int64 [B], by which each image's parameters are drawn: of the sample in an augmented dataset, or of
            the image in a training run, such as epoch · N + its row. Nothing else of the batch has an effect.
        augmentation: what is done; :func:`gen_engine.train.augment.settle.settle_options` fits it to data.
        seed: 0 to 2^64 - 1; ConfigError for another.

    Returns:
        A new tensor of the same shape, dtype and device. Gradients do not pass to uint8 images.
    """
    indices = indices_B.cpu().numpy() if isinstance(indices_B, Tensor) else np.asarray(indices_B)
    assert indices.shape == (len(images_BCHW),), "an index per image"
    height, width = images_BCHW.shape[2:]
    drawn = draw_parameters(indices, (height, width), augmentation, seed)
    whole = images_BCHW.dtype == torch.uint8
    values_BCHW = from_levels(images_BCHW.float()) if whole else images_BCHW
    changed_BCHW = _painted(_coloured(_moved(values_BCHW, drawn, augmentation), drawn, augmentation), drawn)
    keep_B111 = _column(~drawn.changed_N, images_BCHW)
    changed_BCHW = changed_BCHW.clamp(-1, 1)
    if whole:
        changed_BCHW = to_levels(changed_BCHW).to(torch.uint8)
    return torch.where(keep_B111, images_BCHW, changed_BCHW)


def _moved(values_BCHW: Tensor, drawn: Parameters, augmentation: Augmentation) -> Tensor:
    """The images with every pixel from where the affine map says, by bilinear interpolation."""
    if not augmentation.moves:
        return values_BCHW
    affine_B23 = torch.from_numpy(drawn.affine_N23).to(values_BCHW)
    height, width = values_BCHW.shape[2:]
    x_W = (2 * torch.arange(width).to(values_BCHW) + 1) / width - 1
    y_H1 = ((2 * torch.arange(height).to(values_BCHW) + 1) / height - 1)[:, None]
    # Products and sums one by one: a matrix product may round differently in another batch.
    grid_BHW2 = torch.stack([_along(affine_B23[:, axis], x_W, y_H1) for axis in (0, 1)], dim=3)
    if augmentation.background is None:
        return _sampled(values_BCHW, grid_BHW2, "reflection")
    fill_C11 = _fill(augmentation, values_BCHW)
    moved_BCHW: Tensor = _sampled(values_BCHW - fill_C11, grid_BHW2, "zeros") + fill_C11
    return moved_BCHW


def _along(row_B3: Tensor, x_W: Tensor, y_H1: Tensor) -> Tensor:
    """One coordinate of the map at every pixel, [B, H, W]."""
    a_B11, b_B11, c_B11 = (row_B3[:, at, None, None] for at in range(3))
    return a_B11 * x_W + b_B11 * y_H1 + c_B11


def _sampled(values_BCHW: Tensor, grid_BHW2: Tensor, outside: str) -> Tensor:
    return functional.grid_sample(values_BCHW, grid_BHW2, "bilinear", outside, align_corners=False)


def _coloured(values_BCHW: Tensor, drawn: Parameters, augmentation: Augmentation) -> Tensor:
    if augmentation.saturation and values_BCHW.shape[1] == len(LUMA):
        red, green, blue = (values_BCHW[:, at, None] for at in range(3))
        grey_B1HW = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        values_BCHW = grey_B1HW + _column(drawn.saturation_N, values_BCHW) * (values_BCHW - grey_B1HW)
    if augmentation.contrast:
        pivot: Tensor | float = 0.0 if augmentation.background is None else _fill(augmentation, values_BCHW)
        values_BCHW = pivot + _column(drawn.contrast_N, values_BCHW) * (values_BCHW - pivot)
    if augmentation.brightness:
        values_BCHW = values_BCHW + _column(drawn.brightness_N, values_BCHW)
    return values_BCHW


def _painted(values_BCHW: Tensor, drawn: Parameters) -> Tensor:
    if not drawn.rectangle_N4.any():
        return values_BCHW
    height, width = values_BCHW.shape[2:]
    device = values_BCHW.device
    top, bottom, left, right = torch.from_numpy(drawn.rectangle_N4).to(device)[:, :, None, None, None].unbind(1)
    rows_H1, columns_W = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    inside_B1HW = (rows_H1 >= top) & (rows_H1 < bottom) & (columns_W >= left) & (columns_W < right)
    return torch.where(inside_B1HW, _column(drawn.paint_N, values_BCHW).to(values_BCHW.dtype), values_BCHW)


def _fill(augmentation: Augmentation, values_BCHW: Tensor) -> Tensor:
    """The background in [-1, 1], [C, 1, 1]."""
    assert augmentation.background is not None
    assert len(augmentation.background) == values_BCHW.shape[1], "a level per channel"
    levels_C: Tensor = from_levels(torch.tensor(augmentation.background, dtype=torch.float32))
    return levels_C.to(values_BCHW)[:, None, None]


def _column(values_B: NDArray[np.float32] | NDArray[np.bool_], like_BCHW: Tensor) -> Tensor:
    """A value per sample as [B, 1, 1, 1] on the images' device; numbers in the images' dtype if they are floats."""
    column_B = torch.from_numpy(values_B).to(like_BCHW.device)
    if column_B.dtype != torch.bool and like_BCHW.is_floating_point():
        column_B = column_B.to(like_BCHW.dtype)
    return column_B[:, None, None, None]
