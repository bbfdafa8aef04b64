"""Reading ``.npy`` files: a header that is checked against the file's size before memory is allocated."""

from __future__ import annotations

import io
import math
import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import DATA, open_regular, read_bounded

_HEADER_CHARACTERS = 10_000
"""NumPy's own default limit of a header; it is parsed as a Python literal, in superlinear time."""


def map_npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the array of an ``.npy`` file, mapped into memory read-only.

    Raises:
        ValueError: it is not an ``.npy`` file, holds Python objects, or is shorter than its header states.
        OSError: see :func:`gen_engine.engine.base.files.open_regular`.
    """
    with open_regular(path) as file:
        shape, fortran_order, dtype = read_header(file, os.fstat(file.fileno()).st_size)
        if 0 in shape:
            return np.empty(shape, dtype)  # an empty array cannot be mapped
        order: Any = "F" if fortran_order else "C"
        return np.memmap(file, dtype, "r", file.tell(), shape, order)


def load_npy(path: str | os.PathLike[str], limit: int = DATA) -> NDArray[Any]:
    """Return the array of an ``.npy`` file, read into memory; raises like :func:`map_npy`."""
    return parse_npy(read_bounded(path, limit))


def parse_npy(data: bytes) -> NDArray[Any]:
    """Return the array in the bytes of an ``.npy`` file, which it shares; raises ValueError like :func:`map_npy`."""
    file = io.BytesIO(data)
    shape, fortran_order, dtype = read_header(file, len(data))
    array: NDArray[Any] = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    return array.reshape(shape, order="F" if fortran_order else "C")


def read_header(file: BinaryIO, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an ``.npy`` file, up to its data.

    Args:
        file: at the file's start.
        size: of the file, in bytes.

    Returns:
        The array's shape, whether it is stored in Fortran order, and its dtype.

    Raises:
        ValueError: see :func:`map_npy`.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran_order, dtype = read(file, _HEADER_CHARACTERS)
    except KeyError:
        raise ValueError("it is not an .npy file of version 1 or 2") from None
    except Exception as error:  # the header is parsed as a Python literal, which raises many types
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size - file.tell():
        raise ValueError(f"its header states {dtype} {list(shape)}, and {size - file.tell():,} bytes follow it")
    return shape, fortran_order, dtype
