"""What the preview shows of samples of each kind."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import run_job
from numpy.typing import NDArray
from PIL import Image

from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.run.preview import preview
from gen_engine.engine.sample.schema import Batch, Field, Schema
from gen_engine.engine.testing import make_schema


def preview_of(batches: Iterable[NDArray[Any]], kind: str) -> bytes:
    """Return the preview of a generator's one field, given in batches."""
    arrays = iter(batches)
    first = next(arrays)
    schema = make_schema(first.shape[1:], kind=kind, dtype=first.dtype.name)
    name = schema.outputs[0].name
    return preview((Batch(0, {name: array}) for array in chain([first], arrays)), schema)


def sheet_of(batches: list[NDArray[Any]], kind: str) -> NDArray[np.uint8]:
    """Return the preview, [H, W, C], through a reader that is not ours."""
    image = Image.open(io.BytesIO(preview_of(batches, kind)))
    return np.asarray(image).reshape(image.height, image.width, -1)


@pytest.mark.parametrize(
    ("count", "channels", "mode"), [(1, 1, "L"), (7, 3, "RGB"), (100, 4, "RGBA"), (23, 2, "LA"), (11, 5, "L")]
)
def test_the_preview_shows_the_first_samples_in_rows_of_ten(count: int, channels: int, mode: str) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 8, 6, channels), dtype=np.uint8)
    image = Image.open(io.BytesIO(preview_of([pixels], "image")))
    assert image.mode == mode
    sheet = np.asarray(image).reshape(image.height, image.width, -1)
    columns, rows = min(count, 10), -(-count // 10)
    assert sheet.shape[:2] == (rows * (56 + 2) + 2, columns * (42 + 2) + 2)
    for i in range(count):
        top, left = (i // 10) * 58 + 2, (i % 10) * 44 + 2
        shown = sheet[top : top + 56 : 7, left : left + 42 : 7]
        np.testing.assert_array_equal(shown, pixels[i][..., : sheet.shape[2]])


def test_the_preview_is_of_the_dataset_itself(tiny: Bundle, tmp_path: Path) -> None:
    for batch in (3, 50, 200):
        run_job(tiny, tmp_path / f"{batch}", count=120, batch=batch)
        stored = np.load(tmp_path / f"{batch}" / "data" / "train-00000-of-00001.images.npy")
        assert (tmp_path / f"{batch}" / "preview.png").read_bytes() == preview_of([stored[:100]], "image")


def test_a_waveform_is_drawn_from_its_least_to_its_greatest_value_on_one_scale() -> None:
    loud = np.zeros(5000)
    loud[2500], loud[4999] = 1.0, -1.0
    quiet = 0.5 * np.sin(np.linspace(0, 6, 5000))
    sheet = sheet_of([np.stack([loud, quiet]).astype(np.float32)[..., None]], "audio")[..., 0]
    assert sheet.shape == (56 + 4, 2 * 114 + 2)
    loud_ink, quiet_ink = sheet[2:58, 2:114] < 100, sheet[2:58, 116:228] < 100
    assert loud_ink.any(axis=0).all(), "the line has a gap"
    assert loud_ink[0].nonzero()[0].tolist() == [56], "the only peak is in the middle"
    assert loud_ink[-1].nonzero()[0].tolist() == [111], "and the only dip at the end"
    assert loud_ink[27:29, 10:50].sum() == 40, "silence is a line in the middle"
    rows = quiet_ink.any(axis=1).nonzero()[0]
    assert (rows[0], rows[-1]) == (14, 42), "half as loud is half as high"


@pytest.mark.parametrize("length", [1, 2, 111, 112, 113])
def test_a_waveform_of_any_length_has_no_gaps(length: int) -> None:
    rng = np.random.default_rng(length)
    ink = sheet_of([rng.standard_normal((3, length, 2)).astype(np.float32)], "audio")[2:58, 2:114, 0] < 100
    assert ink.any(axis=0).all()
    columns = [np.flatnonzero(column) for column in ink.T]
    for left, right in pairwise(columns):
        assert max(left[0], right[0]) <= min(left[-1], right[-1]), "neighbouring columns touch"


def test_a_volume_is_its_middle_slice_from_its_own_least_to_its_own_greatest() -> None:
    rng = np.random.default_rng(0)
    volumes = (
        rng.standard_normal((12, 5, 8, 6, 1)).astype(np.float32) * np.logspace(-5, 30, 12)[:, None, None, None, None]
    )
    volumes = volumes.astype(np.float32)
    sheet = sheet_of([volumes[:7], volumes[7:]], "volume")[..., 0]
    assert sheet.shape == (2 * 58 + 2, 10 * 44 + 2)
    for i, volume in enumerate(volumes[:, 2, :, :, 0].astype(float)):
        top, left = (i // 10) * 58 + 2, (i % 10) * 44 + 2
        expected = np.round(255 * (volume - volume.min()) / (volume.max() - volume.min()))
        np.testing.assert_array_equal(sheet[top : top + 56 : 7, left : left + 42 : 7], expected)


def test_a_vector_is_a_row_and_a_feature_a_column_on_its_own_scale() -> None:
    rows = np.array([[0, 5, -3e38], [1, 5, 3e38], [2, 5, 0], [4, 5, 0]], np.float32)
    sheet = sheet_of([rows[:1], rows[1:]], "vector")[..., 0]
    assert sheet.shape == (4 * 56, 3 * 56)
    np.testing.assert_array_equal(sheet[::56, ::56], [[0, 128, 0], [64, 128, 255], [128, 128, 128], [255, 128, 128]])


def test_what_is_large_is_not_shown_whole() -> None:
    assert sheet_of([np.zeros((100, 5000), np.float32)], "vector").shape == (500, 1120, 1)
    assert sheet_of([np.zeros((100, 20_000, 2), np.float32)], "audio").shape == (582, 1142, 1)


def test_batches_are_looked_at_one_by_one() -> None:
    """The arrays belong to the stream, which overwrites them."""
    for kind, shape in {"image": (4, 4, 1), "audio": (300, 1), "volume": (3, 4, 4, 1), "vector": (5,)}.items():
        dtype = np.uint8 if kind == "image" else np.float32
        samples = np.random.default_rng(0).integers(0, 200, (6, *shape)).astype(dtype)
        buffer = np.empty_like(samples[:2])

        def reused(buffer: Any = buffer, samples: Any = samples) -> Iterator[NDArray[Any]]:
            for start in (0, 2, 4):
                buffer[:] = samples[start : start + 2]
                yield buffer

        assert preview_of(reused(), kind) == preview_of([samples], kind)


def test_sixteen_bits_are_shown_by_the_upper_eight() -> None:
    images = np.random.default_rng(0).integers(0, 65536, (3, 56, 56, 1), dtype=np.uint16)
    np.testing.assert_array_equal(sheet_of([images], "image"), sheet_of([(images >> 8).astype(np.uint8)], "image"))


def test_numbers_alone_are_a_table() -> None:
    fields = (Field(name="age", kind="integer", dtype="int64"), Field(name="paid", kind="boolean", dtype="bool"))
    batches = [Batch(0, {"age": np.array([20, 30]), "paid": np.array([True, False])})]
    sheet = np.asarray(Image.open(io.BytesIO(preview(batches, Schema(fields)))))
    np.testing.assert_array_equal(sheet[::56, ::56], [[0, 255], [255, 0]])


def test_of_several_fields_the_first_that_is_no_number_is_shown() -> None:
    fields = (
        Field(name="age", kind="integer", dtype="int64"),
        Field(name="face", kind="image", dtype="uint8", shape=(4, 4, 1)),
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), dtype=np.uint8)
    made = preview([Batch(0, {"age": np.array([1, 2]), "face": images})], Schema(fields))
    assert made == preview_of([images], "image")
