"""Checks of arrays that were read from a file, before anything looks up in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray


def check_dtypes(
    arrays: Mapping[str, NDArray[Any]], meanings: Mapping[str, str], *, axes: Mapping[str, int] | None = None
) -> None:
    """ValueError unless there are these arrays and no others.

    Args:
        arrays: as read.
        meanings: name → dtype, a colon and what it means.
        axes: name → how many axes it has; one unless it is there.
    """
    if other := sorted(arrays.keys() - meanings.keys()):
        raise ValueError(f"{other[0]} is no array of this model")
    for name, meaning in meanings.items():
        kind = meaning.partition(":")[0]
        due = (axes or {}).get(name, 1)
        if name not in arrays or str(arrays[name].dtype) != kind or arrays[name].ndim != due:
            raise ValueError(f"{name} is missing, or is not {kind} of {due} axes")


def check_lengths(arrays: Mapping[str, NDArray[Any]], lengths: Mapping[str, int]) -> None:
    """ValueError unless the arrays have these lengths."""
    for name, count in lengths.items():
        if len(arrays[name]) != count:
            raise ValueError(f"{name} has {len(arrays[name]):,} values, not {count:,}")
