"""Figures: what a metric computes, each with its interval, beside its floor and its ceiling.

A figure that could not be computed has no value and says why: it is never 0, and never left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

LEVEL: Final = 0.95
"""Confidence level of every interval."""

Question: TypeAlias = Literal["useful", "faithful", "private"]

Better: TypeAlias = Literal["higher", "lower", "equal"]
"""Which way a figure is better; ``equal``: the nearer to its ceiling, from either side."""

Condition: TypeAlias = str | int | float | bool
"""A setting or a size that a figure depends on, such as rows, neighbours or the extractor's name."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval at :data:`LEVEL`, both bounds included.

    Raises:
        ValueError: a bound is not finite, or they are swapped.
    """

    low: float
    high: float

    method: str
    """How it was computed, such as ``bootstrap over rows, 200 resamples``."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"an interval from {self.low} to {self.high}")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The same quantity computed of something whose quality is known: a figure's floor or ceiling.

    Raises:
        ValueError: its value is not finite.
    """

    value: float
    interval: Interval | None

    what: str
    """What was measured instead, such as ``train against test`` or ``majority class``."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"a reference, {self.what}, of {self.value}")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a report.

    Raises:
        ValueError: it has neither a finite value nor a reason, or both; or a condition is not finite.
    """

    metric: str
    """Name of the metric in the registry, such as ``frechet``."""

    name: str
    """The figure's own name within the report, lower case with dots, such as ``frechet`` or ``tstr.balanced_accuracy``:
    what gates refer to."""

    question: Question
    better: Better
    value: float | None
    interval: Interval | None = None
    floor: Reference | None = None
    ceiling: Reference | None = None

    group: str | None = None
    """The class, column or pair of columns that it is of; None for the whole dataset."""

    not_computed: str | None = None
    """Why there is no value, for the user."""

    conditions: Mapping[str, Condition] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.not_computed is None):
            raise ValueError(f"figure {self.name}: value {self.value}, not computed: {self.not_computed}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"figure {self.name}: value {self.value}; say why it is not computed instead")
        for name, condition in self.conditions.items():
            if isinstance(condition, float) and not math.isfinite(condition):
                raise ValueError(f"figure {self.name}: condition {name} is {condition}")

    @property
    def safe_bound(self) -> float | None:
        """The bound of the interval that claims least, which gates compare; the value if it has no interval."""
        if self.value is None or self.interval is None or self.better == "equal":
            return self.value
        return self.interval.low if self.better == "higher" else self.interval.high

    @property
    def against_ceiling(self) -> Literal["short of", "level with", "beyond"] | None:
        """How the figure compares with its ceiling, real rows against real ones; None without intervals of both.

        ``short of``: its interval lies wholly on the worse side of the ceiling's. ``beyond``: on the better
        side: nearer to the training rows than other real rows are, as copies of them would be. For ``equal``, either
        side is short of it.
        """
        if self.interval is None or self.ceiling is None or self.ceiling.interval is None:
            return None
        best = self.ceiling.interval
        if self.interval.low <= best.high and best.low <= self.interval.high:
            return "level with"
        higher = self.interval.low > best.high
        return "beyond" if self.better == ("higher" if higher else "lower") else "short of"


def not_computed(metric: str, name: str, question: Question, better: Better, why: str, **more: Any) -> Figure:
    """Return a figure without a value."""
    return Figure(metric=metric, name=name, question=question, better=better, value=None, not_computed=why, **more)
