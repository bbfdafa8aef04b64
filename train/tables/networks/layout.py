"""How the codes of all columns stand in one vector: in groups of columns of like cardinality, padded to one width.

Shape suffixes: N rows, D columns, K codes of a column, W width of a group, P all groups' codes with their padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FULLEST = 0.7
"""Least share of a group's width that a column of it has codes for."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Columns that are computed together."""

    columns: tuple[int, ...]
    width: int

    @property
    def values(self) -> int:
        """Codes with their padding."""
        return len(self.columns) * self.width


def groups_of(sizes: Sequence[int]) -> tuple[Group, ...]:
    """Return the groups, those of most codes first.

    Args:
        sizes: K of each column.
    """
    groups: list[Group] = []
    chosen: list[int] = []
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        if chosen and sizes[place] < FULLEST * sizes[chosen[0]]:
            groups.append(Group(columns=tuple(chosen), width=sizes[chosen[0]]))
            chosen = []
        chosen.append(place)
    return (*groups, Group(columns=tuple(chosen), width=sizes[chosen[0]]))


def first_of(groups: Sequence[Group], columns: int) -> NDArray[np.int64]:
    """Return where each column's codes begin in the vector, int64 [D]."""
    first_D, at = np.zeros(columns, np.int64), 0
    for group in groups:
        for column in group.columns:
            first_D[column] = at
            at += group.width
    return first_D


def is_padding(groups: Sequence[Group], sizes: Sequence[int]) -> NDArray[np.bool_]:
    """Return which places of the vector are no code, bool [P]."""
    return np.concatenate(
        [np.arange(group.width) >= sizes[column] for group in groups for column in group.columns]
    ).astype(bool)
