"""What happens to each sample, from its own random numbers: where its pixels come from, its colours, its rectangle.

Number k of a sample always decides the same thing, so that changing one strength changes nothing else.
Legend: N samples, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.augment.options import Augmentation
from gen_engine.train.augment.philox import PARAMETER_STREAM, fractions, words

SMALLEST_RECTANGLE = 0.02
"""Share of the image, and the next is the least ratio of the sides: those of Zhong et al. 2020."""

NARROWEST = 0.3


class Draw(IntEnum):
    """Which of a sample's random numbers decides what. The numbers are part of the result: only add to them."""

    FLIP = 0
    FLIP_VERTICAL = 1
    SHIFT_X = 2
    SHIFT_Y = 3
    ROTATE = 4
    ZOOM = 5
    SHEAR = 6
    CROP_SIDE = 7
    CROP_X = 8
    CROP_Y = 9
    BRIGHTNESS = 10
    CONTRAST = 11
    SATURATION = 12
    ERASE = 13
    ERASE_AREA = 14
    ERASE_ASPECT = 15
    ERASE_X = 16
    ERASE_Y = 17
    ERASE_LEVEL = 18
    SHARE = 19


@dataclass(frozen=True)
class Parameters:
    """The parameters of N samples."""

    affine_N23: NDArray[np.float32]
    """Position in the output → position in the image, both from -1 to 1 across it: x' = a x + b y + c and the same
    of y'."""

    brightness_N: NDArray[np.float32]
    """Added to values in [-1, 1]."""

    contrast_N: NDArray[np.float32]
    """Factor of the distance to the background, or to medium grey."""

    saturation_N: NDArray[np.float32]
    """Factor of the distance to the pixel's own grey."""

    rectangle_N4: NDArray[np.int64]
    """top, bottom, left, right of the rectangle that is painted over; empty where there is none."""

    paint_N: NDArray[np.float32]
    """Value that it gets, in [-1, 1]."""

    changed_N: NDArray[np.bool_]
    """Which samples are changed at all."""


def draw_parameters(
    indices_N: NDArray[np.int64], size: tuple[int, int], augmentation: Augmentation, seed: int
) -> Parameters:
    """The parameters of samples, by seed and index alone.

    Args:
        indices_N: their indices, int64 [N], in any order.
        size: height and width of the images in pixels.
        augmentation: the strengths.
        seed: 0 to 2^64 - 1; ConfigError for another.
    """
    unit_NK = fractions(words(seed, PARAMETER_STREAM, indices_N, len(Draw)))
    strength = augmentation

    def about(draw: Draw, bound: float) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (2 * unit_NK[:, draw] - 1) * bound
        return values

    return Parameters(
        affine_N23=_affine(unit_NK, size, strength),
        brightness_N=about(Draw.BRIGHTNESS, 2 * strength.brightness).astype(np.float32),
        contrast_N=(1 + about(Draw.CONTRAST, strength.contrast)).astype(np.float32),
        saturation_N=(1 + about(Draw.SATURATION, strength.saturation)).astype(np.float32),
        rectangle_N4=_rectangles(unit_NK, size, strength),
        paint_N=about(Draw.ERASE_LEVEL, 1).astype(np.float32),
        changed_N=unit_NK[:, Draw.SHARE] < strength.share,
    )


def _affine(unit_NK: NDArray[np.float64], size: tuple[int, int], strength: Augmentation) -> NDArray[np.float32]:
    """Float32 [N, 2, 3]. The image is slanted, turned, enlarged and moved; then a square is cut out and mirrored.

    A sample asks for the reverse, where the pixel at p of the output comes from: A⁻¹ (s F p + c - t), with the square's
    half side s and centre c, the mirroring F, the shift t, and A⁻¹ = slant(-k) turn(-θ) / zoom.
    """
    height, width = size
    signed_NK = 2 * unit_NK - 1
    angle_N = np.deg2rad(strength.rotate) * signed_NK[:, Draw.ROTATE]
    slant_N = np.tan(np.deg2rad(strength.shear) * signed_NK[:, Draw.SHEAR])
    larger_N = 1 + strength.zoom * signed_NK[:, Draw.ZOOM]
    cos_N, sin_N = np.cos(angle_N) / larger_N, np.sin(angle_N) / larger_N
    # An image that is not square is turned in pixels, not in shares of its sides.
    inverse_N22 = np.empty((len(unit_NK), 2, 2))
    inverse_N22[:, 0, 0] = cos_N + slant_N * sin_N
    inverse_N22[:, 0, 1] = (sin_N - slant_N * cos_N) * (height / width)
    inverse_N22[:, 1, 0] = -sin_N * (width / height)
    inverse_N22[:, 1, 1] = cos_N
    half_N = 1 - (1 - strength.crop) * unit_NK[:, Draw.CROP_SIDE]
    mirrored_N2 = np.ones((len(unit_NK), 2))
    for axis, draw, on in ((0, Draw.FLIP, strength.flip), (1, Draw.FLIP_VERTICAL, strength.flip_vertical)):
        if on:
            mirrored_N2[unit_NK[:, draw] < 0.5, axis] = -1
    centre_N2 = (1 - half_N)[:, None] * signed_NK[:, [Draw.CROP_X, Draw.CROP_Y]]
    centre_N2 -= 2 * strength.shift * signed_NK[:, [Draw.SHIFT_X, Draw.SHIFT_Y]]
    affine_N23 = np.empty((len(unit_NK), 2, 3), np.float32)
    affine_N23[:, :, :2] = inverse_N22 * (half_N[:, None] * mirrored_N2)[:, None, :]
    affine_N23[:, :, 2] = (inverse_N22 * centre_N2[:, None, :]).sum(axis=2)
    return affine_N23


def _rectangles(unit_NK: NDArray[np.float64], size: tuple[int, int], strength: Augmentation) -> NDArray[np.int64]:
    """int64 [N, 4]: area uniform, ratio of the sides log-uniform from 0.3 to 1 / 0.3, all of it inside the image."""
    area_N = SMALLEST_RECTANGLE + (strength.erase_area - SMALLEST_RECTANGLE) * unit_NK[:, Draw.ERASE_AREA]
    aspect_N = NARROWEST ** (1 - 2 * unit_NK[:, Draw.ERASE_ASPECT])
    edges = []
    for length, side_N, draw in (
        (size[0], np.sqrt(area_N * aspect_N), Draw.ERASE_Y),
        (size[1], np.sqrt(area_N / aspect_N), Draw.ERASE_X),
    ):
        long_N = np.clip(np.rint(side_N * length), 1, length).astype(np.int64)
        first_N = np.floor(unit_NK[:, draw] * (length - long_N + 1)).astype(np.int64)
        edges += [first_N, first_N + long_N]
    rectangle_N4 = np.stack(edges, axis=1)
    rectangle_N4[unit_NK[:, Draw.ERASE] >= strength.erase] = 0
    return rectangle_N4
