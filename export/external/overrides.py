"""What the user states about an external generator: flags parsed once, into what the analysis works with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.npy import load_npy
from gen_engine.engine.identity.latents import DISTRIBUTIONS
from gen_engine.export.external.interface import FLAT, LAYOUTS, RANGES

Sizes = tuple[int, ...]

Constant = int | float | NDArray[Any]
"""A number, or an array: one row, the same for every sample."""

MAX_CLASSES = 1 << 16
_MAX_AXES = 4
_SIZES = re.compile(r"\d+(x\d+)*")
_NUMBERS = "fiub"


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What is given, and so not inferred; None or empty: inferred."""

    latent: tuple[tuple[str | None, Sizes | None], ...] = ()
    """Name and sizes of each latent input."""

    label: str | None = None
    """The input that takes labels."""

    classes: int | None = None
    """How many classes it knows."""

    output: str | None = None
    layout: str | None = None
    range: str | None = None
    shape: Sizes | None = None
    """Of a sample, channels last; its rank decides the modality."""

    distribution: str = "normal"
    """Of the latents; random numbers that the graph draws keep theirs."""

    constants: Mapping[str, Constant] = field(default_factory=dict)
    """Inputs that are fixed."""

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Return the inputs that are named as latents."""
        return tuple(name for name, _ in self.latent if name)

    @property
    def undecided(self) -> Literal["latents", "classes"] | None:
        """Return what may still be inferred: how wide latents are, else how many classes there are."""
        if not any(sizes for _, sizes in self.latent):
            return "latents"
        return "classes" if self.classes is None else None

    @property
    def splits(self) -> bool:
        """Return True if latents and labels that are joined may be split anywhere."""
        return self.undecided == "latents" and self.classes is None

    def sizes_of(self, name: str, *, first: bool) -> Sizes | None:
        """Return the sizes given for an input; those without a name are the first input's."""
        given = dict(self.latent)
        return given.get(name) or (given.get(None) if first else None)


class OverrideError(ValueError):
    """A flag holds something that it cannot mean; the message begins with the flag."""


def parse_overrides(
    *,
    latent: str | None = None,
    label: str | None = None,
    output: str | None = None,
    layout: str | None = None,
    range: str | None = None,  # named as the flag
    shape: str | None = None,
    distribution: str = "normal",
    constants: Sequence[str] = (),
) -> Overrides:
    """Return the flags' values, parsed.

    Raises:
        OverrideError: one of them holds something else than it may.
    """
    for flag, value, known in (
        ("layout", layout, (*LAYOUTS, FLAT)),
        ("range", range, tuple(RANGES)),
        ("latent-distribution", distribution, DISTRIBUTIONS),
    ):
        if value is not None and value not in known:
            raise OverrideError(f"--{flag} {value!r}: known are {', '.join(known)}")
    name, classes = _label(label)
    sizes = None if shape is None else _sizes("shape", shape)
    if sizes is not None and len(sizes) > _MAX_AXES:
        raise OverrideError(f"--shape {shape}: a sample has one to four axes")
    return Overrides(
        latent=_latents(latent),
        label=name,
        classes=classes,
        output=output,
        layout=layout,
        range=range,
        shape=sizes,
        distribution=distribution,
        constants=dict(map(_constant, constants)),
    )


def _sizes(flag: str, text: str) -> Sizes:
    """Return the sizes of ``28x28x1``."""
    sizes = tuple(int(part) for part in text.split("x")) if _SIZES.fullmatch(text) else ()
    if not sizes or min(sizes) < 1:
        raise OverrideError(f"--{flag} {text!r}: sizes are whole numbers of at least 1 with x between them, as 28x28x1")
    return sizes


def _latents(text: str | None) -> tuple[tuple[str | None, Sizes | None], ...]:
    """Return name and sizes of each latent input of ``z=100,noise``, or ``100``."""
    latents: list[tuple[str | None, Sizes | None]] = []
    for item in text.split(",") if text else []:
        name, equals, sizes = item.rpartition("=")
        if not equals and not _SIZES.fullmatch(item):
            latents.append((item, None))
        else:
            latents.append((name or None, _sizes("latent", sizes)))
    return tuple(latents)


def _label(text: str | None) -> tuple[str | None, int | None]:
    """Return name and number of classes of ``y=10``, ``y`` or ``10``."""
    if not text:
        return None, None
    name, equals, count = text.rpartition("=")
    if not equals and not count.isdecimal():
        return count, None
    if not count.isdecimal() or not 1 <= int(count) <= MAX_CLASSES:
        raise OverrideError(
            f"--label {text!r}: the number of classes is a whole number from 1 to {MAX_CLASSES}, as in y=10"
        )
    return name or None, int(count)


def _constant(text: str) -> tuple[str, Constant]:
    """Return name and value of ``truncation_psi=0.7``, ``c=[1, 0]`` or ``c=row.npy``."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise OverrideError(f"--constant {text!r} is not NAME=VALUE or NAME=FILE.npy")
    if value.endswith(".npy"):
        return name, _array(name, Path(value))
    try:
        parsed = json.loads(value)
        if isinstance(parsed, int | float) and not isinstance(parsed, bool):
            return name, parsed
        array = np.asarray(parsed)
    except (ValueError, TypeError) as error:
        raise OverrideError(f"--constant {text!r}: the value is a number, a list of numbers, or a .npy file") from error
    if array.dtype.kind not in _NUMBERS:
        raise OverrideError(f"--constant {text!r}: the value is a number, a list of numbers, or a .npy file")
    return name, array


def _array(name: str, path: Path) -> NDArray[Any]:
    try:
        array = load_npy(path)
    except (OSError, ValueError) as error:
        raise OverrideError(f"--constant {name}={path}: it cannot be read as a .npy file: {error}") from error
    if array.dtype.kind not in _NUMBERS:
        raise OverrideError(f"--constant {name}={path}: it holds {array.dtype}, and an input takes numbers")
    return array
