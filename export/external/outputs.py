"""What a generator makes, by looking at its samples: which output, what axes, what kind, what range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.interface import CHANNELS_FIRST, FLAT, LAYOUTS, RANGES, Asked, Made

_RANKS = {1: "vector", 2: "audio", 3: "image", 4: "volume"}
_PICTURE_CHANNELS = (3, 1, 4)
"""Those that a shape is taken for a picture by, the likely ones first."""

_FEW = 16
"""An axis of so many entries at most is channels, beside one that is longer."""

_SLACK = 1e-3
_DARKEST_BYTE = 100.0
"""Values that are above this and below 256, and not negative, are bytes."""


def choose_output(made: Mapping[str, NDArray[Any]], asked: str | None, said: list[str]) -> str:
    """Return the output that holds the samples: the one with the most values a row, unless it is named."""
    if asked is not None:
        if asked not in made:
            raise UnsupportedGenerator(f"--output {asked}: the generator makes {', '.join(made)}")
        return asked
    rows = max(len(array) if array.ndim else 0 for array in made.values())
    full = {name: array for name, array in made.items() if array.ndim > 1 and len(array) == rows}
    chosen = max(full, key=lambda name: full[name].size)
    if len(made) > 1:
        said.append(f"output: {chosen}, the largest of {', '.join(made)} (--output)")
    return chosen


def describe(name: str, samples: NDArray[Any], asked: Asked, said: list[str]) -> Made:
    """Return what the samples are.

    Args:
        name: of the output.
        samples: [B, …], many of them.
        asked: what is known already.
        said: gets a sentence for each inference.

    Raises:
        UnsupportedGenerator: they are not finite, are no numbers, or cannot be told.
    """
    if samples.dtype.kind not in "fiu":
        raise UnsupportedGenerator(f"output {name} is of {samples.dtype}, and a sample is made of numbers")
    if bad := int(np.count_nonzero(~np.isfinite(samples))):
        raise UnsupportedGenerator(f"{bad} of the {samples.size} values that it makes are not finite")
    range_ = _range(samples)
    sizes = samples.shape[1:]
    layout, shape = _layout(sizes, asked, bounded=range_ is not None or asked.range is not None)
    modality = _RANKS[len(shape)]
    written = "×".join(map(str, shape))
    said.append(f"output: {modality} {written}, made as {layout} {list(sizes)} (--layout, --shape)")
    if modality != "image":
        if asked.range is not None:
            raise UnsupportedGenerator(
                f"--range {asked.range}: samples of modality {modality} are stored as the generator's own values; "
                "leave it out"
            )
        return Made(name=name, layout=layout, range=None, modality=modality, shape=shape)
    found = f"{len(samples)} samples reach from {float(samples.min()):.3g} to {float(samples.max()):.3g}"
    if (range_ := asked.range or range_) is None:
        raise UnsupportedGenerator(f"{found}, which is none of {', '.join(RANGES)}; name it with --range")
    said.append(f"range: {range_}; {found} (--range)")
    return Made(name=name, layout=layout, range=range_, modality=modality, shape=shape)


def _range(samples: NDArray[Any]) -> str | None:
    low, high = float(samples.min()), float(samples.max())
    if samples.dtype == np.uint8:
        return "0..255"
    if low >= -_SLACK and high <= 1 + _SLACK:
        return "0..1"
    if low >= -1 - _SLACK and high <= 1 + _SLACK:
        return "-1..1"
    return "0..255" if low >= -_SLACK and _DARKEST_BYTE <= high <= 255 + _SLACK else None


def _layout(sizes: Sequence[int], asked: Asked, *, bounded: bool) -> tuple[str, tuple[int, ...]]:
    """Return the axes and the shape of a sample, channels last: the first that fits what is asked."""
    fits = [
        (layout, shape)
        for layout, shape in _readings(sizes, asked)
        if asked.layout in (None, layout) and asked.shape in (None, shape)
    ]
    told = asked.layout is not None or asked.shape is not None
    likely = [fit for fit in fits if told or _is_likely(*fit, bounded=bounded)]
    if likely:
        return min((fit for fit in likely if len(fit[1]) == len(likely[0][1])), key=_preference)
    flags = [f"--layout {asked.layout}"] if asked.layout else []
    flags += [f"--shape {'x'.join(map(str, asked.shape))}"] if asked.shape else []
    if told:
        raise UnsupportedGenerator(f"{' '.join(flags)}: it makes {list(sizes)} a latent, which is nothing of the kind")
    raise UnsupportedGenerator(
        f"it makes {list(sizes)} a latent, which is no picture of 1, 3 or 4 channels and nothing else that is known; "
        f"say what it is with --layout {'|'.join((*LAYOUTS, FLAT))} or --shape"
    )


def _preference(fit: tuple[str, tuple[int, ...]]) -> int:
    """Return which of several likely readings to take, the least first: of pictures, the one in colour."""
    shape = fit[1]
    return _PICTURE_CHANNELS.index(shape[-1]) if len(shape) == 3 and shape[-1] in _PICTURE_CHANNELS else 0


def _readings(sizes: Sequence[int], asked: Asked) -> list[tuple[str, tuple[int, ...]]]:
    """Return all (layout, shape) that an output of these sizes can be."""
    found: list[tuple[str, tuple[int, ...]]] = []
    if len(sizes) == 1:  # so many values are a row of a table, unless they could be a picture
        found = [*((FLAT, shape) for shape in _pictures(sizes[0])), ("NC", (sizes[0],))]
    for layout, modality in LAYOUTS.items():
        if len(layout) != len(sizes) + 1 or modality == "vector":
            continue
        by_axis = {"C": 1} | dict(zip(layout[1:], sizes, strict=True))
        found.append((layout, (*(by_axis[axis] for axis in CHANNELS_FIRST[modality][2:]), by_axis["C"])))
    if asked.shape is not None and math.prod(asked.shape) == math.prod(sizes):
        found.append((FLAT, asked.shape))
    return found


def _pictures(values: int) -> list[tuple[int, int, int]]:
    """Return the square pictures of 1, 3 or 4 channels that have so many values."""
    sides = {channels: math.isqrt(values // channels) for channels in _PICTURE_CHANNELS}
    return [(side, side, channels) for channels, side in sides.items() if side * side * channels == values and side > 1]


def _is_likely(layout: str, shape: tuple[int, ...], *, bounded: bool) -> bool:
    """Tell whether samples may be taken for this without being told."""
    *space, channels = shape
    if layout == "NC":
        return True
    if layout == FLAT:
        return bounded
    if len(shape) == 3:
        return channels in _PICTURE_CHANNELS and (layout != "NHW" or (bounded and space[0] == space[1]))
    return channels <= _FEW and channels < min(space) and (layout not in ("NL", "NDHW") or min(space) > _FEW)
