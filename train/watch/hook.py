"""Figures of the caller's own at every look: training imports nothing that evaluates. Imports no library.

Legend: N rows, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Better = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Images and their labels."""

    images_NHWC: NDArray[np.uint8]
    """uint8 [N, H, W, C]."""

    labels_N: NDArray[np.int64] | None
    """int64 [N]; None for a model without classes."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a metric is computed from. All but the samples are the same at every look."""

    samples: Rows
    """Of the averaged generator, from the same latents at every look."""

    train: Rows
    """Training rows, as many of each class as there are samples."""

    test: Rows
    """The held-out rows if there are any, and else as many training rows again, different ones."""

    class_names: tuple[str, ...] | None
    """A name for each label, None without labels."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A figure."""

    value: float
    """NaN where there is none."""

    better: Better
    """Which values are better."""


@dataclass(frozen=True, kw_only=True)
class WatchMetric:
    """Computes figures at every look. What it draws at random from torch does not change the training."""

    name: str
    """Figures are named NAME.FIGURE in metrics.jsonl, and for `keep_best`."""

    measure: Callable[[Watched], Mapping[str, Measured]]
    """Return the figures by name, the same names each time."""
