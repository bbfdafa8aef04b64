"""The mapping from values to pixels, for every kind of number and every range that data come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen_engine.train.data import ReadOptions, read_data
from gen_engine.train.data.values import Span, ValueRange, infer_range
from gen_engine.train.errors import ConfigError, DataError

UNIT = np.linspace(0, 1, 2 * 28 * 28).reshape(2, 28, 28)
PIXELS = np.rint(UNIT * 255).astype(np.uint8)


def read(folder: Path, images: Any, value_range: str | None = None) -> Any:
    np.save(folder / "a.npy", images)
    return read_data(str(folder / "a.npy"), ReadOptions(value_range=value_range))


@pytest.mark.parametrize(
    ("dtype", "high", "taken"),
    [
        ("?", 1, "0..1"),
        ("u1", 1, "0..1"),
        ("u1", 255, "0..255"),
        ("i1", 1, "0..1"),
        ("i2", 255, "0..255"),
        ("<u2", 1, "0..1"),
        ("<u2", 255, "0..255"),
        ("<u2", 1023, "0..1023"),
        (">u2", 4095, "0..4095"),
        ("<u2", 4000, "0..4095"),
        ("i4", 16383, "0..16383"),
        ("u4", 65535, "0..65535"),
        (">i8", 255, "0..255"),
        ("u8", 1, "0..1"),
        ("f2", 1, "0..1"),
        (">f4", 1, "0..1"),
        ("f8", 255, "0..255"),
        ("g", 1, "0..1"),
    ],
)
def test_each_type_reaches_black_and_white(tmp_path: Path, dtype: str, high: int, taken: str) -> None:
    values = (UNIT * high + (0.5 if dtype in "?u1i1<u2i2i4u4>u2>i8u8" and high > 1 else 0)).astype(dtype)
    if high == 1 and np.dtype(dtype).kind in "?iu":
        values = (UNIT > 0.5).astype(dtype)
    data = read(tmp_path, values)
    top = 255 if high != 4000 else 249
    assert (data.images_NHWC.min(), data.images_NHWC.max()) == (0, top)
    assert f"values from 0 to {high} were read as {taken}" in data.notes[1]


def test_signed_floats_are_centred(tmp_path: Path) -> None:
    data = read(tmp_path, (UNIT * 2 - 1).astype(np.float32))
    assert (np.abs(data.images_NHWC[..., 0].astype(int) - PIXELS) <= 1).all()
    assert "float32 values from -1 to 1 were read as -1..1 (inferred" in data.notes[1]


@pytest.mark.parametrize(
    "values",
    [
        UNIT * 3000,
        UNIT * 3,
        UNIT * 1.0001,
        UNIT * 300,
        UNIT * 1.02 - 0.01,
        UNIT - 5,
        UNIT * 100 - 50,
        (UNIT * 3000 - 1000).astype(np.int16),
        (UNIT * 100_000).astype(np.int32),
    ],
)
def test_an_unclear_range_is_refused_with_the_flag(tmp_path: Path, values: Any) -> None:
    with pytest.raises(DataError, match=r"a\.npy has .* values from .*--value-range LOW\.\.HIGH"):
        read(tmp_path, values)
    low, high = float(values.min()), float(values.max())
    data = read(tmp_path, values, f"{low!r}..{high!r}")
    assert (data.images_NHWC.min(), data.images_NHWC.max()) == (0, 255)
    assert "(--value-range)" in data.notes[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_whatever_the_range(tmp_path: Path, bad: float) -> None:
    values = UNIT.copy()
    values[1, 3, 3] = bad
    for value_range in (None, "0..1"):
        with pytest.raises(DataError, match="float64 values that are NaN or infinite: replace them"):
            read(tmp_path, values, value_range)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        (UNIT.astype(np.complex64), "complex64.*np.abs"),
        (UNIT.astype("U4"), "<U4: use integers, floats or booleans"),
        (UNIT.astype("M8[s]"), "datetime64"),
        (np.zeros((2, 28, 28), [("r", "u1"), ("g", "u1")]), "one per value"),
    ],
)
def test_what_is_not_a_number_is_refused(tmp_path: Path, values: Any, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        read(tmp_path, values)


@pytest.mark.parametrize(
    ("values", "value_range", "warned"),
    [
        (PIXELS // 16, None, True),
        (PIXELS, None, False),
        (np.full_like(PIXELS, 7), None, True),
        (UNIT * 0.05, None, True),
        (PIXELS, "0..65535", True),
        (PIXELS // 2, None, False),
    ],
)
def test_a_tenth_of_the_range_or_less_is_warned_of(
    tmp_path: Path, values: Any, value_range: str | None, warned: bool
) -> None:
    notes = read(tmp_path, values, value_range).notes
    assert any(note.startswith("warning: ") and "nearly of one shade" in note for note in notes) == warned


def test_what_is_clipped_is_logged(tmp_path: Path) -> None:
    data = read(tmp_path, PIXELS, "50..100")
    assert "warning: uint8 values outside 50..100 were clipped to it" in data.notes
    assert data.images_NHWC[PIXELS[..., None] <= 50].max() == 0
    assert data.images_NHWC[PIXELS[..., None] >= 100].min() == 255


@pytest.mark.parametrize("text", ["", "5", "0-255", "0..", "1..0", "3..3", "0..nan", "0..1e999", "a..b", "0...5..6"])
def test_what_is_not_a_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"value-range is .*: write LOW\.\.HIGH"):
        ReadOptions(value_range=text)


@pytest.mark.parametrize("text", ["0..1", "-1000..3000", " -.5 .. 1e3 ", "0.0..0.1"])
def test_ranges_are_read(text: str) -> None:
    low, high = ReadOptions(value_range=text).bounds() or (0, 0)
    assert low < high


def test_named_data_take_no_range() -> None:
    with pytest.raises(ConfigError, match="the values of digits are known"):
        read_data("digits", ReadOptions(value_range="0..1"))


def test_rounding_is_to_the_nearest_and_exact_at_the_ends() -> None:
    values = np.arange(65536, dtype=np.uint16)
    pixels = ValueRange(low=0, high=65535).to_uint8(values)
    np.testing.assert_array_equal(pixels, np.rint(values / 257.0))
    assert infer_range(Span.of(np.array([0, 4096], np.uint16)), "uint16", "x").high == 16383


def test_a_span_is_measured_in_pieces_whatever_the_layout() -> None:
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    for view in (values, values.transpose(2, 0, 1), values[:, ::-1, ::2]):
        span = Span.of(view, chunk=7)
        assert (span.low, span.high, span.integers) == (view.min(), view.max(), False)
