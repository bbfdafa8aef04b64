"""Every "auto" of `AugmentOptions` replaced by what suits the data, with a sentence that says why.

Legend: N images, H height, W width, C channels, P border pixels.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.augment.options import Augmentation, AugmentOptions, AugmentStrengths
from gen_engine.train.data.image_data import ImageData

PLAIN_SHARE = 0.5
"""Least share of the border pixels that have one level on a plain background, give or take `PLAIN_LEVELS`."""

PLAIN_LEVELS = 8
CROP, BRIGHTNESS = 0.85, 0.1
"""What they are where there is no plain background."""

_EXAMINED = 2_000
"""Images whose borders are examined, evenly spaced."""

SIDED = frozenset(
    {"left", "right", "east", "west", "clockwise", "counterclockwise", "anticlockwise", "arrow", "turn", "sign"}
    | {"letter", "character", "digit", "number", "text"}
    | {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
)
"""Words in the name of a class that may look different, or be another class, in a mirror."""


def settle_options(options: AugmentOptions, data: ImageData) -> tuple[Augmentation, tuple[str, ...]]:
    """The augmentation that these options mean on this data, and a note for each choice that was left open.

    - Mirroring: no class of clothing or animals changes in a mirror, a "left" and most digits and letters do. What is
      not known to be safe is not done.
    - Outside and background: images on a plain background are moved over it, and their brightness and edges are kept,
      since a lighter background or a missing stroke is not another picture of the same thing; others are reflected.
    """
    flip, flip_note = _settle_flip(options.flip, data.class_names)
    background = _background(data.images_NHWC) if options.outside != "reflect" else None
    notes = [flip_note] if flip_note else []
    if options.outside == "background" and background is None:
        background = _levels(_border(data.images_NHWC))
    if options.outside == "auto":
        notes.append(_outside_note(background))
    strengths: dict[str, Any] = {}
    for one in dataclasses.fields(AugmentStrengths):  # floats also where 0 was given, so that equal plans are equal
        value = getattr(options, one.name)
        strengths[one.name] = value if isinstance(value, bool) else float(value)
    plain = background is not None
    augmentation = Augmentation(
        flip=flip,
        crop=(1.0 if plain else CROP) if options.crop is None else float(options.crop),
        brightness=(0.0 if plain else BRIGHTNESS) if options.brightness is None else float(options.brightness),
        background=background,
        **strengths,
    )
    return augmentation, tuple(notes)


def _settle_flip(requested: str, class_names: Sequence[str] | None) -> tuple[bool, str]:
    if requested != "auto":
        return requested == "on", ""
    ask = "--flip on mirrors half of them, if that is still one of these images"
    if class_names is None:
        return False, f"no sample is mirrored, since nothing says what the images show; {ask}"
    sided = next((name for name in class_names if may_change_in_a_mirror(name)), None)
    if sided is not None:
        return False, f"no sample is mirrored, since class {sided!r} may be another one in a mirror; {ask}"
    return True, "half of the samples are mirrored left to right: by their names, no class changes by it; --flip off"


def may_change_in_a_mirror(name: str) -> bool:
    """Whether the name of a class is a character, has a digit, or has a word for a side or a sign in it."""
    parts = [part for part in re.split(r"[\W_]+", name.casefold()) if part]
    return len(name) == 1 or any(one.isdigit() for one in name) or not SIDED.isdisjoint(parts)


def _outside_note(background: tuple[int, ...] | None) -> str:
    if background is None:
        return "outside of the images is their reflection, since their borders differ"
    level = ",".join(map(str, background))
    return f"outside of the images is their plain background, level {level}; it keeps its brightness"


def _background(images_NHWC: NDArray[np.uint8]) -> tuple[int, ...] | None:
    """The level of each channel of a plain background, or None."""
    border_PC = _border(images_NHWC)
    levels = _levels(border_PC)
    close_P = (np.abs(border_PC.astype(np.int64) - levels) <= PLAIN_LEVELS).all(axis=1)
    return levels if close_P.mean() >= PLAIN_SHARE else None


def _levels(border_PC: NDArray[np.uint8]) -> tuple[int, ...]:
    return tuple(int(level) for level in np.median(border_PC, axis=0))


def _border(images_NHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The outermost pixels of some of the images, uint8 [P, C]."""
    some = images_NHWC[:: -(-len(images_NHWC) // _EXAMINED)]
    edges = (some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1])
    return np.concatenate([edge.reshape(-1, images_NHWC.shape[3]) for edge in edges])
