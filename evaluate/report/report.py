"""A report: every figure of an evaluation, and what it was computed of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gen_engine.evaluate.exhibit import Exhibit
from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.metrics.contract import Budget
from gen_engine.evaluate.split import Role


@dataclass(frozen=True, kw_only=True)
class Side:
    """One set of rows that was evaluated."""

    role: Role
    source: str
    """As the user named it."""

    rows: int
    digest: str
    """BLAKE3 of its columns' values, 64 hexadecimal digits."""

    class_counts: Mapping[str, int]
    """Class name → rows; empty without classes."""

    notes: tuple[str, ...]
    """What was changed or left out when it was read."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures, exhibits, and the conditions that they hold under."""

    version: str
    """Version of gen-engine."""

    sides: tuple[Side, ...]
    """The synthetic rows, the real training rows and, if there were any, the real test rows, in this order."""

    target: str | None
    """Name of the field that models predict."""

    extractor: str
    """Identity of what turned rows into features."""

    seed: int
    budget: Budget
    figures: tuple[Figure, ...]
    exhibits: tuple[Exhibit, ...] = ()
    notes: tuple[str, ...] = ()
    """What holds for the whole evaluation, such as rows that train and test share."""
