"""Arrays are read as NumPy reads them, and a header alone takes no memory."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gen_engine.engine.base.npy import load_npy, map_npy


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=">f4").reshape(3, 4)),
        np.zeros((0, 3), np.uint8),
        np.float64(1.5),
        np.array(["a", "bc"]),
    ],
)
def test_arrays_are_read(array: NDArray[Any], tmp_path: Path) -> None:
    np.save(tmp_path / "it.npy", array)
    for found in (map_npy(tmp_path / "it.npy"), load_npy(tmp_path / "it.npy")):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def saved(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an array",
        saved(np.arange(10))[:-1],
        saved(np.arange(10))[:50],
        saved(np.array([{}, None])),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000)}\n"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}\n"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "(" * 3000 + ")" * 3000 + ")}\n"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': "),
        header("[]\n"),
        b"\x93NUMPY\x09\x00" + bytes(100),
    ],
)
def test_damaged_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "it.npy").write_bytes(data)
    for read in (map_npy, load_npy):
        with pytest.raises(ValueError, match=r"."):
            read(tmp_path / "it.npy")
