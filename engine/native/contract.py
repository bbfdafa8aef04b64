"""What the compiled core offers."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

RecordColumn: TypeAlias = tuple[Any, ...]
"""How the values of a batch are stored in records::

    ("ragged", data, offsets)      bytes, and int64 [B + 1] offsets, as in a Ragged
    ("rows", data, width)          B times ``width`` bytes
    ("same", data)                 the same bytes in every record
    ("decimal", numbers)           int64 [B], at least 0, as text
    ("varint", numbers)            int64 [B] as protocol buffer varints
    ("signed", numbers)            int64 [B] as text; the least one is no text
    ("named", data, offsets, ids)  bytes and int64 [K + 1] offsets, and int64 [B] places in them, negative ones for none
"""


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

    def tar_records(self, first: int, samples: int, members: list[tuple[bytes, RecordColumn]], /) -> bytes:
        """Return a batch's members of a tar: for each its header, with zeros for the digits that change, and its data.

        Raises:
            ValueError: a size or an offset is out of range, or an index has more than twelve digits.
        """
        ...

    def mds_records(self, samples: int, columns: list[RecordColumn], sizes: NDArray[np.int64], /) -> bytes:
        """Return a batch's samples as an MDS shard has them, and put the size of each into ``sizes``.

        Raises:
            ValueError: a size or an offset is out of range.
        """
        ...

    def tfrecord_records(self, samples: int, features: list[tuple[bytes | None, int, RecordColumn]], /) -> bytes:
        """Return a batch's TFRecords of Examples: each feature's name, kind of list, and values.

        Values of a feature without a name are whole map entries.

        Raises:
            ValueError: a size or an offset is out of range.
        """
        ...

    def csv_lines(self, samples: int, columns: list[RecordColumn], /) -> bytes:
        """Return a batch's lines of CSV: the values as they are, with commas between them and CR LF after the last.

        Raises:
            ValueError: there is no column, or a size, an offset or a place is out of range.
        """
        ...

    def crc32c(self, data: Any, /) -> int:
        """Return the CRC-32C of bytes."""
        ...

    def philox_words(self, seed: int, stream: int, first_block: int, out: NDArray[np.uint64], /) -> None:
        """Fill ``out``, of whole blocks, with the words of Philox4x64-10 blocks from ``first_block`` on.

        Raises:
            ValueError: ``out`` is not of whole blocks of uint64, or a number is not in [0, 2**64).
        """
        ...

    def draw_latents(
        self,
        seed: int,
        stream: int,
        first: int,
        samples: int,
        dim: int,
        lines: NDArray[np.float32],
        out: NDArray[np.float32],
        /,
    ) -> None:
        """Draw the latents of samples ``[first, first + samples)`` into ``out``, float32 [samples, dim].

        Args:
            seed: first half of the key.
            stream: second half of the key.
            first: index of the first sample.
            samples: how many.
            dim: latents of a sample.
            lines: float32 [2**17, 2], the intercept and the slope of each segment.
            out: receives them.

        Raises:
            ValueError: a size or a number is out of range, the samples' blocks reach 2**64, or a buffer is too small or
                has items of another size.
            TypeError: ``out`` is read-only or not C-contiguous.
        """
        ...
