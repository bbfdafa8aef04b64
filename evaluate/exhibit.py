"""Exhibits: rows shown side by side in a report, so that a reader sees what a figure is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field, Ragged
from gen_engine.evaluate.split import Split


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownRow:
    """One row: its picture or its values."""

    caption: str
    """Which row it is, such as ``train, row 17``."""

    image: NDArray[np.uint8] | None = None
    """uint8 [H, W, C], with 1 or 3 channels; None for a row of a table."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Field name → value, as text. It is input of the user's: whoever shows it escapes it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exhibit:
    """Lines of rows, each line shown side by side."""

    metric: str
    """Name of the metric that it belongs to."""

    title: str
    note: str
    """What there is to see, and what it does not show."""

    lines: tuple[tuple[ShownRow, ...], ...]


def show_row(split: Split, row: int, caption: str) -> ShownRow:
    """Return a row as a report shows it: images as 8 bits of 1 or 3 channels, other fields as text."""
    image = split.image
    values = {
        one.name: _text(one, column[row] if not isinstance(column, Ragged) else column[row : row + 1].pieces()[0])
        for one, column in ((one, split[one.name]) for one in split.schema)
        if one is not image and not one.shape and one.kind not in ("index", "seed")
    }
    picture = None if image is None else _picture(np.asarray(split[image.name])[row])
    return ShownRow(caption=caption, image=picture, values=values)


def _picture(pixels_HWC: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 pixels: 16 bits lose their lower half, and channels past the third are not shown."""
    if pixels_HWC.dtype == np.uint16:
        pixels_HWC = (pixels_HWC >> 8).astype(np.uint8)
    channels = pixels_HWC.shape[2]
    return np.ascontiguousarray(pixels_HWC[:, :, : 3 if channels >= 3 else 1], np.uint8)


def _text(field: Field, value: Any) -> str:
    if field.categories is not None:
        return "missing" if value < 0 else field.categories[int(value)]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "missing" if value != value else f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)
