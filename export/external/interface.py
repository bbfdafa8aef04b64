"""What drives an external generator and what it makes, in arrays: the types that this package shares.

Shape suffixes: B batch, Z latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.levels import to_levels
from gen_engine.engine.identity.bundle import OutputSpec

RANGES: Mapping[str, tuple[float, float]] = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0), "0..255": (0.0, 255.0)}
"""What the values of an image may span."""

CHANNELS_FIRST = {"image": "NCHW", "audio": "NCL", "volume": "NCDHW", "vector": "NC"}
"""Modality → the axes of the graph's output ``images``."""

LAYOUTS: Mapping[str, str] = {
    layout: modality
    for modality, layouts in (
        ("image", ("NCHW", "NHWC", "NHW")),
        ("audio", ("NCL", "NLC", "NL")),
        ("volume", ("NCDHW", "NDHWC", "NDHW")),
        ("vector", ("NC",)),
    )
    for layout in layouts
}
"""Axes of what a generator makes → its modality; without C there is one channel. ``flat``: any, channels first."""

FLAT = "flat"


@dataclass(frozen=True, kw_only=True)
class LatentPart:
    """One input of the generator that takes a share of the latents."""

    name: str
    sizes: tuple[int, ...]
    """After the batch."""

    dtype: np.dtype[Any]
    distribution: str
    """Standard normal, or uniform over (-1, 1): the engine's two."""

    @property
    def width(self) -> int:
        """Latents that it takes."""
        return math.prod(self.sizes)


@dataclass(frozen=True, kw_only=True)
class LabelPart:
    """The input that takes the labels."""

    name: str
    form: str
    """``ids`` [B], ``column`` [B, 1], or ``one-hot`` [B, classes, …]."""

    dtype: np.dtype[Any]
    classes: int
    """0: ids whose number is not known yet."""

    axes: int = 0
    """Axes of size 1 that follow the classes of a one-hot row."""

    def encoded(self, labels_B: NDArray[np.int64]) -> NDArray[Any]:
        """Return class ids as the input takes them."""
        if self.form == "one-hot":
            hot: NDArray[Any] = (labels_B[:, None] == np.arange(self.classes)).astype(self.dtype)
            return hot.reshape(*hot.shape, *(1,) * self.axes)
        ids = labels_B.astype(self.dtype)
        return ids[:, None] if self.form == "column" else ids


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the generator makes."""

    name: str
    layout: str
    range: str | None
    """A key of :data:`RANGES` for images, None for values that are stored as they are."""

    modality: str
    shape: tuple[int, ...]
    """Of a sample, channels last, as recorded in the bundle."""

    @property
    def channels_first(self) -> tuple[int, ...]:
        """Return the shape of a sample with its channels first."""
        return (self.shape[-1], *self.shape[:-1])

    def perm(self) -> list[int] | None:
        """Return the transposition to channels first of an output that has all its axes; None if it needs none."""
        wanted = CHANNELS_FIRST[self.modality]
        if sorted(self.layout) != sorted(wanted) or self.layout == wanted:
            return None
        return [self.layout.index(axis) for axis in wanted]

    def affine(self) -> tuple[float, float]:
        """Return (scale, shift) that take the values to [-1, 1]."""
        low, high = RANGES[self.range] if self.range else (-1.0, 1.0)
        return 2 / (high - low), -1 - 2 * low / (high - low)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What drives a generator: shares of the latents, and labels."""

    parts: tuple[LatentPart, ...]
    label: LabelPart | None

    @property
    def distribution(self) -> str:
        """Of the bundle's latents: uniform if all parts are, else normal, of which a uniform part is a function."""
        return "uniform" if all(part.distribution == "uniform" for part in self.parts) else "normal"

    @property
    def latent_dim(self) -> int:
        """Latents per sample."""
        return sum(part.width for part in self.parts)

    @property
    def classes(self) -> int:
        """Classes; 0 without labels."""
        return self.label.classes if self.label else 0

    def feeds(self, z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> dict[str, NDArray[Any]]:
        """Return the generator's inputs by name for latents, float32 [B, Z], and class ids [B]."""
        feeds: dict[str, NDArray[Any]] = {}
        start = 0
        for part in self.parts:
            share = z_BZ[:, start : start + part.width]
            start += part.width
            if part.distribution != self.distribution:
                share = _normal_to_uniform(share)
            feeds[part.name] = share.reshape(len(z_BZ), *part.sizes).astype(part.dtype)
        if self.label is not None:
            assert labels_B is not None, "a conditional generator takes labels"
            feeds[self.label.name] = self.label.encoded(labels_B)
        return feeds


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A generator's inputs and output."""

    inputs: Inputs
    made: Made

    batch: int | None
    """The only batch that it runs at; None for any."""

    @property
    def output(self) -> OutputSpec:
        """Return the bundle's description of a sample."""
        return OutputSpec(kind=self.made.modality, shape=self.made.shape)

    def samples(self, made: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the generator made as ``images``: float32 [B, C, …], of images in [-1, 1]."""
        perm = self.made.perm()
        turned = made if perm is None else made.transpose(perm)
        scale, shift = self.made.affine()
        whole = turned.astype(np.float32).reshape(len(made), *self.made.channels_first)
        return whole if (scale, shift) == (1.0, 0.0) else whole * np.float32(scale) + np.float32(shift)

    def stored(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Return ``images`` as they are stored: channels last, of images uint8."""
        last = np.moveaxis(images, 1, -1)
        if self.made.modality != "image":
            return last
        levels: NDArray[np.uint8] = to_levels(last).astype(np.uint8)
        return levels


def _normal_to_uniform(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 2 Φ(z) − 1 = erf(z / √2), which is uniform over (-1, 1)."""
    erf = np.frompyfunc(lambda x: math.erf(x / math.sqrt(2)), 1, 1)
    return np.asarray(erf(z), np.float32)
