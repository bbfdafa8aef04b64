"""Where decoded images go, one after the other: an array in memory, or a file that is mapped.

Legend: N images, S side, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from gen_engine.engine.base.npy import map_npy
from gen_engine.train.data.image_data import check_memory

_BUFFER = 1 << 20


class Store(Protocol):
    """Receives images in order."""

    def append(self, image_SSC: NDArray[np.uint8]) -> None:
        """Add one more."""

    def restart(self) -> None:
        """Forget what was added."""

    def finish(self) -> NDArray[np.uint8]:
        """Uint8 [N, S, S, C]: what was added."""


OpenStore: TypeAlias = Callable[[int, "tuple[int, int, int]", int, str], Store]
"""Opens a store for at most so many images of a shape (S, S, C): `in_memory` and what a cache has in its place.

The third argument is the most bytes that may be taken in memory, the fourth names the source in messages.
"""


class InMemory:
    """Keeps images in an array."""

    def __init__(self, most: int, shape: tuple[int, int, int]) -> None:
        self._images = np.empty((most, *shape), np.uint8)
        self._count = 0

    def append(self, image_SSC: NDArray[np.uint8]) -> None:
        """Add one more."""
        self._images[self._count] = image_SSC
        self._count += 1

    def restart(self) -> None:
        """Forget what was added."""
        self._count = 0

    def finish(self) -> NDArray[np.uint8]:
        """Uint8 [N, S, S, C]: what was added."""
        return self._images[: self._count]


def in_memory(most: int, shape: tuple[int, int, int], limit: int, where: str) -> Store:
    """A store in memory; DataError when the images may need more bytes than the limit."""
    check_memory(most * int(np.prod(shape)), limit, where, "decode them into a --cache, or use")
    return InMemory(most, shape)


class InFile:
    """Writes images to a new .npy file, which takes no memory."""

    def __init__(self, path: Path, most: int, shape: tuple[int, int, int]) -> None:
        self._path, self._shape = path, shape
        self._count = 0
        self._file: BinaryIO = path.open("xb", buffering=_BUFFER)
        self._write_header(most)
        self._start = self._file.tell()

    def append(self, image_SSC: NDArray[np.uint8]) -> None:
        """Add one more; OSError when the disk is full."""
        self._file.write(np.ascontiguousarray(image_SSC))
        self._count += 1

    def restart(self) -> None:
        """Forget what was added."""
        self._file.seek(self._start)
        self._file.truncate()
        self._count = 0

    def finish(self) -> NDArray[np.uint8]:
        """Uint8 [N, S, S, C]: what was added, mapped."""
        self._file.seek(0)
        self._write_header(self._count)
        assert self._file.tell() == self._start  # NumPy pads headers, so that an array can grow
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return map_npy(self._path)

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def _write_header(self, count: int) -> None:
        header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (count, *self._shape)}
        npy_format.write_array_header_1_0(self._file, header)
