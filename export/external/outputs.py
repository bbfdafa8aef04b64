"""What a generator makes, by its samples and its last operators: which output, what axes, what kind, what range.

A row of numbers is a vector unless something shows that it is an image: a vector keeps every value. An image has at
least :data:`MIN_SIDE` pixels on each side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.interface import CHANNELS_FIRST, FLAT, LAYOUTS, RANGES, Made
from gen_engine.export.external.overrides import Overrides, Sizes

_RANKS = {1: "vector", 2: "audio", 3: "image", 4: "volume"}
_IMAGE_CHANNELS = (3, 1, 4)
"""Those that an image is recognized by, the likely ones first."""

MIN_SIDE = 4
"""Least height and width of what is taken for an image without being stated."""

MIN_LENGTH = 32
"""Least length of what is taken for a sound or series."""

_SIDES = (28, 32, 48, 64, 96, 128, 256, 512, 1024)
"""Sides of the square images that data sets hold: those for which a shape without channels is an image."""

_MAX_CHANNELS = 16
"""An axis of so many entries at most is channels, beside one that is longer."""

_SLACK = 1e-3
_DARKEST_BYTE = 100.0
"""Values that are above this and below 256, and not negative, are bytes."""

Fit = tuple[str, Sizes]
"""Layout, and the shape of a sample, channels last."""


def choose_output(made: Mapping[str, NDArray[Any]], stated: str | None, notes: list[str]) -> str:
    """Return the output that holds the samples: the one with the most values per row, unless it is stated."""
    if stated is not None:
        if stated not in made:
            raise UnsupportedGenerator(f"--output {stated}: the generator makes {', '.join(made)}")
        return stated
    rows = max(len(array) if array.ndim else 0 for array in made.values())
    full = {name: array for name, array in made.items() if array.ndim > 1 and len(array) == rows}
    chosen = max(full, key=lambda name: full[name].size)
    if len(made) > 1:
        notes.append(f"output: {chosen}, the largest of {', '.join(made)} (--output)")
    return chosen


def describe(
    name: str,
    samples: NDArray[Any],
    interval: tuple[float, float] | None,
    overrides: Overrides,
    notes: list[str],
) -> Made:
    """Return what the samples are.

    Args:
        name: of the output.
        samples: [B, …], many of them.
        interval: bounds that the graph's last operators put on the values; None if they put none.
        overrides: what is stated.
        notes: gets a sentence for each inference.

    Raises:
        UnsupportedGenerator: they are not finite, are not numbers, or nothing decides what they are.
    """
    if samples.dtype.kind not in "fiu":
        raise UnsupportedGenerator(f"output {name} is of {samples.dtype}, and a sample is made of numbers")
    if bad := int(np.count_nonzero(~np.isfinite(samples))):
        raise UnsupportedGenerator(f"{bad} of the {samples.size} values that it makes are not finite")
    range_, why = _range(samples, interval)
    sizes = samples.shape[1:]
    layout, shape = _layout(sizes, overrides, bounded=range_ is not None or overrides.range is not None)
    modality = _RANKS[len(shape)]
    written = "×".join(map(str, shape))
    notes.append(f"output: {modality} {written}, made as {layout} {list(sizes)} (--layout, --shape)")
    if modality != "image":
        if overrides.range is not None:
            raise UnsupportedGenerator(
                f"--range {overrides.range}: samples of modality {modality} are stored as the generator's own values; "
                "leave it out"
            )
        notes += _other_images(sizes, modality, overrides)
        return Made(name=name, layout=layout, range=None, modality=modality, shape=shape)
    reach = f"{len(samples)} samples reach from {float(samples.min()):.3g} to {float(samples.max()):.3g}"
    chosen = overrides.range or range_
    if chosen is None:
        raise UnsupportedGenerator(f"{reach}, which is none of {', '.join(RANGES)}; state it with --range")
    notes.append(f"range: {chosen}; {reach if overrides.range or why is None else f'{why}; {reach}'} (--range)")
    notes += _clipped(samples, chosen)
    return Made(name=name, layout=layout, range=chosen, modality=modality, shape=shape)


def _range(samples: NDArray[Any], interval: tuple[float, float] | None) -> tuple[str | None, str | None]:
    """Return the range of the values, and what decided it if not the values alone."""
    low, high = float(samples.min()), float(samples.max())
    if samples.dtype == np.uint8:
        return "0..255", None
    for name, (least, most) in RANGES.items():
        slack = _SLACK * (most - least)
        if interval is not None and abs(interval[0] - least) <= slack and abs(interval[1] - most) <= slack:
            return name, "its last operators bound it"
    if low >= -_SLACK and high <= 1 + _SLACK:
        return "0..1", None
    if low >= -1 - _SLACK and high <= 1 + _SLACK:
        return "-1..1", None
    return ("0..255" if low >= -_SLACK and _DARKEST_BYTE <= high <= 255 + _SLACK else None), None


def _clipped(samples: NDArray[Any], range_: str) -> list[str]:
    """Return a warning if values lie beyond the range, where storing clips them."""
    least, most = RANGES[range_]
    slack = _SLACK * (most - least)
    beyond = float(np.mean((samples < least - slack) | (samples > most + slack)))
    if not beyond:
        return []
    warning = (
        f"warning: {100 * beyond:.2g} % of the values lie beyond {range_}, down to {float(samples.min()):.3g} and up "
        f"to {float(samples.max()):.3g}, and are clipped (--range)"
    )
    return [warning]


def _layout(sizes: Sizes, overrides: Overrides, *, bounded: bool) -> Fit:
    """Return the axes and the shape of a sample, channels last: the first that fits what is stated."""
    fits = [
        (layout, shape)
        for layout, shape in _readings(sizes, overrides)
        if overrides.layout in (None, layout) and overrides.shape in (None, shape)
    ]
    stated = overrides.layout is not None or overrides.shape is not None
    likely = [fit for fit in fits if stated or _is_likely(*fit, bounded=bounded)]
    if likely:
        return min((fit for fit in likely if len(fit[1]) == len(likely[0][1])), key=_preference)
    flags = [f"--layout {overrides.layout}"] if overrides.layout else []
    flags += [f"--shape {'x'.join(map(str, overrides.shape))}"] if overrides.shape else []
    if stated:
        raise UnsupportedGenerator(
            f"{' '.join(flags)}: it makes {list(sizes)} per latent, which has other axes or another number of values"
        )
    long = max(sizes)
    sound = f", for a sound or series --shape {long}x{math.prod(sizes) // long}" if long >= MIN_LENGTH else ""
    image = f", for an image --shape {sizes[0]}x{sizes[1]}x1" if len(sizes) == 2 else ""
    raise UnsupportedGenerator(
        f"it makes {list(sizes)} per latent, and nothing decides what that is: an image has 1, 3 or 4 channels and at "
        f"least {MIN_SIDE} pixels per side. State it with --shape, for a vector --shape {math.prod(sizes)}{image}"
        f"{sound}, or with --layout {'|'.join((*LAYOUTS, FLAT))}"
    )


def _preference(fit: Fit) -> int:
    """Return which of several likely readings to take, the least first: of images, the one in color."""
    shape = fit[1]
    return _IMAGE_CHANNELS.index(shape[-1]) if len(shape) == 3 and shape[-1] in _IMAGE_CHANNELS else 0


def _readings(sizes: Sequence[int], overrides: Overrides) -> list[Fit]:
    """Return all (layout, shape) that an output of these sizes can be."""
    readings: list[Fit] = []
    if len(sizes) == 1:
        readings = [*((FLAT, shape) for shape in _images(sizes[0])), ("NC", (sizes[0],))]
    for layout, modality in LAYOUTS.items():
        if len(layout) != len(sizes) + 1 or modality == "vector":
            continue
        by_axis = {"C": 1} | dict(zip(layout[1:], sizes, strict=True))
        readings.append((layout, (*(by_axis[axis] for axis in CHANNELS_FIRST[modality][2:]), by_axis["C"])))
    if overrides.shape is not None and math.prod(overrides.shape) == math.prod(sizes):
        readings.append((FLAT, overrides.shape))
    return readings


def _images(values: int) -> list[tuple[int, int, int]]:
    """Return the square images of 1, 3 or 4 channels that have so many values."""
    sides = {channels: math.isqrt(values // channels) for channels in _IMAGE_CHANNELS}
    return [
        (side, side, channels)
        for channels, side in sides.items()
        if side * side * channels == values and side >= MIN_SIDE
    ]


def _is_likely(layout: str, shape: Sizes, *, bounded: bool) -> bool:
    """Return whether samples may be taken for this without being stated."""
    *space, channels = shape
    if layout == "NC":
        return True
    if layout == FLAT:  # a power of two may be the length of a sound as well
        values = math.prod(shape)
        return bounded and space[0] in _SIDES and bool(values & (values - 1))
    if len(shape) == 3:
        square = layout != "NHW" or (bounded and space[0] == space[1] and space[0] in _SIDES)
        return channels in _IMAGE_CHANNELS and min(space) >= MIN_SIDE and square
    if len(shape) == 2 and space[0] < MIN_LENGTH:
        return False
    return (
        channels <= _MAX_CHANNELS
        and channels < min(space)
        and (layout not in ("NL", "NDHW") or min(space) > _MAX_CHANNELS)
    )


def _other_images(sizes: Sequence[int], modality: str, overrides: Overrides) -> list[str]:
    """Return the flag which states that a row of numbers is an image."""
    if modality != "vector" or overrides.shape is not None or overrides.layout is not None:
        return []
    shapes = ["x".join(map(str, shape)) for shape in _images(sizes[0])]
    return [f"output: not an image; of rows that are images, state --shape {' or '.join(shapes)}"] if shapes else []
