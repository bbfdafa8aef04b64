"""What a user may ask of augmentation, and the same with nothing left open. Imports no torch and no NumPy.

The command line makes its flags from the fields of `AugmentOptions` and shows the docstring under each as help.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from gen_engine.train.errors import ConfigError

FLIPS = ("auto", "on", "off")
OUTSIDES = ("auto", "background", "reflect")


@dataclass(frozen=True, kw_only=True)
class AugmentStrengths:
    """The numbers that need no look at the data. Each sample draws its own, uniformly between the bounds."""

    flip_vertical: bool = False
    """Mirror half of the samples top to bottom."""

    shift: float = 0.08
    """Most that a sample is moved along each axis, as a share of its side, 0 to 0.5."""

    rotate: float = 10.0
    """Most that it is turned either way, in degrees, 0 to 180."""

    zoom: float = 0.1
    """Most that it is enlarged or made smaller, as a share, 0 to 0.5."""

    shear: float = 5.0
    """Most that it is slanted either way, in degrees, 0 to 45."""

    contrast: float = 0.1
    """Most that contrast is raised or lowered, as a share, 0 to 1."""

    saturation: float = 0.2
    """The same of colours' saturation, 0 to 1; of no effect on grey images."""

    erase: float = 0.0
    """Probability that a rectangle is painted over, 0 to 1 (random erasing, Zhong et al. 2020). Off by default, since a
    generator that is trained on the result would learn the rectangles."""

    erase_area: float = 0.2
    """Largest share of the image that it covers, 0.02 to 1."""

    share: float = 1.0
    """Share of the samples that are changed, 0 to 1; the others are images as they were read."""

    def __post_init__(self) -> None:
        bounds = {"shift": 0.5, "rotate": 180, "zoom": 0.5, "shear": 45}
        bounds |= dict.fromkeys(("contrast", "saturation", "erase", "share"), 1)
        for name, high in bounds.items():
            check_bounds(name, getattr(self, name), 0, high)
        check_bounds("erase_area", self.erase_area, 0.02, 1)


@dataclass(frozen=True, kw_only=True)
class AugmentOptions(AugmentStrengths):
    """Everything that `gen-engine augment` takes; "auto" and None are settled by the data."""

    flip: str = "auto"
    """Mirror half of the samples left to right: on, off, or auto, which is off unless no class can change by it."""

    crop: float | None = None
    """Smallest side of the square that is cut out and enlarged to the whole, as a share, 0.1 to 1.  [default: 0.85; 1
    on a plain background]"""

    brightness: float | None = None
    """Most that is added to brightness or taken from it, as a share of its range, 0 to 1.  [default: 0.1; 0 on a plain
    background]"""

    outside: str = "auto"
    """What is outside of an image that was moved: background, which is one colour; reflect, its mirror image; or auto,
    the background where nearly every image has the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("flip", FLIPS), ("outside", OUTSIDES)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be {', '.join(choices)}")
        if self.crop is not None:
            check_bounds("crop", self.crop, 0.1, 1)
        if self.brightness is not None:
            check_bounds("brightness", self.brightness, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Augmentation(AugmentStrengths):
    """An augmentation with every choice made: `gen_engine.train.augment.settle.settle_options` makes one from data."""

    flip: bool = False
    """Whether half of the samples are mirrored left to right."""

    crop: float = 1.0
    brightness: float = 0.0

    background: tuple[int, ...] | None = None
    """Level of each channel, 0 to 255, that is outside of an image; None for its reflection."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("crop", self.crop, 0.1, 1)
        check_bounds("brightness", self.brightness, 0, 1)

    @property
    def moves(self) -> bool:
        """Whether any sample is moved at all."""
        strengths = (self.shift, self.rotate, self.zoom, self.shear, 1.0 - self.crop)
        return self.flip or self.flip_vertical or any(strengths)

    def recorded(self) -> dict[str, str | int | float | bool]:
        """Every value by name, for a plan: text, numbers, true or false."""
        known = dataclasses.asdict(self)
        levels = known.pop("background")
        return known | {"outside": "reflect" if levels is None else "background " + ",".join(map(str, levels))}


def check_bounds(name: str, value: float, low: float, high: float) -> None:
    """ConfigError unless the value of an option is within its bounds; NaN is not."""
    if isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name.replace('_', '-')} is {value}: it must be {low:g} to {high:g}")
