"""What the compiled core offers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Core(Protocol):
    """The functions of ``src/module.c``. Each releases the interpreter's lock while it works."""

    BUILD: str

    def features(self) -> list[str]:
        """Return the names of the processor's features that are used."""
        ...

    def lock_wait(self, pause_ns: int, /) -> int:
        """Sleep without the interpreter's lock, and return how long it took to take it back; both in nanoseconds."""
        ...

    def set_simd(self, enabled: bool, /) -> None:
        """Use the processor's features, or only what every processor has; for tests."""
        ...

    def encode_png(
        self,
        pixels: Any,
        count: int,
        rows: int,
        row_bytes: int,
        pixel_bytes: int,
        head: bytes,
        entries: NDArray[np.uint32],
        heads: NDArray[np.uint8],
        head_bits: NDArray[np.uint32],
        out: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        /,
    ) -> None:
        """Write the PNG files of ``count`` images into ``out``, and the offset of each and of the end.

        Args:
            pixels: C-contiguous bytes [count, rows, row_bytes].
            count: images.
            rows: of an image.
            row_bytes: of a row.
            pixel_bytes: the distance to the same channel of the pixel to the left.
            head: the signature and the chunk IHDR, 33 bytes.
            entries: the symbols of the ready codes, see :class:`~gen_engine.engine.codecs.huffman.ReadyCodes`.
            heads: their heads.
            head_bits: bits of those.
            out: at least ``count`` times :meth:`png_bound` bytes.
            offsets: count + 1.

        Raises:
            ValueError: a size is out of range, or a buffer too small.
        """
        ...

    def png_bound(self, rows: int, row_bytes: int, /) -> int:
        """Return the most bytes that the file of an image takes."""
        ...

    def unfilter_png(
        self, filtered: Any, rows: int, row_bytes: int, pixel_bytes: int, pixels: NDArray[np.uint8], /
    ) -> None:
        """Undo the row filters of an image: rows of a filter number and ``row_bytes`` bytes.

        Raises:
            ValueError: a row's filter is not one of PNG's five, a size is out of range, or a buffer too small.
        """
        ...
