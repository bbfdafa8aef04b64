"""Arrays that are mapped from a file: reading them whole in bounded memory.

The pages of a mapped file that were touched count as the process's memory until the system needs them elsewhere.
`release_pages` gives them back at once; they are read again when they are touched again. Legend: N images.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 16 * 2**20
"""Bytes of a mapped array that are touched before they are released."""

FAULT = 64 * 2**10
"""Bytes that Linux maps around a page that is touched (fault_around_bytes)."""


def mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """The mapping that an array is a view of, or None for an array in memory."""
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether the values of an array are in a file, or are one row repeated, so that a copy would take more memory."""
    return mapping(array) is not None or (array.size > 0 and array.strides[0] == 0)


def release_pages(array: NDArray[Any]) -> None:
    """Give the pages of a mapped array back to the system; nothing for an array in memory."""
    found = mapping(array)
    if found is not None and hasattr(found, "madvise"):
        found.madvise(mmap.MADV_DONTNEED)


def blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield all rows in order, at most 16 MiB at a time; those of a mapped array are released after use."""
    rows = max(1, BLOCK // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        release_pages(array)


class Gathering:
    """Rows of an array in any order, as copies; those of a mapped array take no more than `BLOCK` of memory."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self._row = array.nbytes // max(1, len(array)) + FAULT
        self._touched = 0

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """A new array of these rows."""
        step = max(1, BLOCK // self._row)
        taken = np.empty((len(rows), *self.array.shape[1:]), self.array.dtype)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            np.take(self.array, part, axis=0, out=taken[start : start + step], mode="clip")
            self._touched += len(part) * self._row
            if self._touched >= BLOCK:
                release_pages(self.array)
                self._touched = 0
        return taken
