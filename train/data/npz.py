"""Reading .npy and .npz files, and writing images as one.

Sizes are known, and within the limit, before memory is taken. Nothing is unpickled.
"""

from __future__ import annotations

import io
import lzma
import math
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.base.npy import read_header
from gen_engine.train.data.image_data import check_memory
from gen_engine.train.data.names import shown
from gen_engine.train.errors import DataError

DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, OverflowError, struct.error),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)
"""What zipfile and its decompressors raise on damaged, encrypted or unsupported archives."""

MAX_MEMBERS = 10_000


def read_members(path: Path, wanted: Sequence[str], limit: int) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The wanted arrays by name, and the names of the others, which are not read; an .npy holds `wanted[0]` alone.

    DataError naming the file and the reason: not a NumPy file, damaged, of Python objects, or of more bytes than limit.
    """
    try:
        with open_regular(path) as file:
            if file.peek(2)[:2] == b"PK":  # type: ignore[attr-defined]
                return _read_zip(file, path, wanted, limit)
            return {wanted[0]: _read_array(file, os.fstat(file.fileno()).st_size, path, limit)}, []
    except FileNotFoundError as error:
        raise DataError(f"{shown(path)} does not exist") from error
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{shown(path)} cannot be read as NumPy arrays ({reason}). Arrays of Python objects are never unpickled: "
            f"save plain numbers with np.savez, or fetch the file again if it is damaged."
        ) from error


def _read_zip(
    file: BinaryIO, path: Path, wanted: Sequence[str], limit: int
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise ValueError(f"it has {len(members):,} members, more than {MAX_MEMBERS:,}")
        names = [member.filename.removesuffix(".npy") for member in members]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"it has two arrays named {shown(twice[0])}")
        chosen = {name: member for name, member in zip(names, members, strict=True) if name in wanted}
        check_memory(sum(member.file_size for member in chosen.values()), limit, shown(path))
        arrays = {}
        for name, member in chosen.items():
            with archive.open(member) as stream:
                arrays[name] = _read_array(stream, member.file_size, path, limit)
        return arrays, [name for name in names if name not in chosen]


def _read_array(stream: Any, size: int, path: Path, limit: int) -> NDArray[Any]:
    """One array, read to the end of its stream of this size, so that a checksum there is verified."""
    shape, fortran_order, dtype = read_header(stream, size)
    count = math.prod(shape)
    check_memory(count * dtype.itemsize, limit, shown(path))
    flat = np.empty(count, dtype)
    left = memoryview(flat.view(np.uint8)) if dtype.itemsize and count else memoryview(b"")
    while len(left):
        read = stream.readinto(left[: 1 << 20])
        if not read:
            raise EOFError(f"its data end {len(left):,} bytes early")
        left = left[read:]
    if stream.read(1):
        raise ValueError("bytes follow the array")
    return flat.reshape(shape, order="F" if fortran_order else "C")


def npz_of(
    images_NHWC: NDArray[np.uint8], labels: NDArray[np.int64] | None, class_names: tuple[str, ...] | None
) -> bytes:
    """The .npz that is read as these images, uint8 [N, H, W, C], and labels, int64 [N]: equal bytes for equal ones."""
    arrays: dict[str, NDArray[Any]] = {"images": images_NHWC}
    if labels is not None and class_names is not None:
        arrays |= {"labels": labels, "class_names": np.array(class_names)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()
