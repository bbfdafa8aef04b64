"""Parquet as others write it: encoded images, numbers with a shape, labels of every type; and damaged files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from gen_engine.train.data import ReadOptions, read_data
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import ConfigError, DataError

COUNT = 150
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), np.uint8)
LABELS = np.arange(COUNT) % 3


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


ENCODED = [png(one) for one in PIXELS]
FILES = pa.struct({"bytes": pa.binary(), "path": pa.string()})
STRUCTS = [{"bytes": data, "path": f"John Doe {at}.png"} for at, data in enumerate(ENCODED)]


def read(at: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, **options: Any) -> ImageData:
    """Write a Parquet file with several row groups, and read it."""
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, at / "x.parquet", row_group_size=40)
    return read_data(str(at / "x.parquet"), ReadOptions(**options))


def tensors() -> Any:
    """Images as a column of fixed-shape tensors."""
    kind = pa.fixed_shape_tensor(pa.uint8(), [28, 28])
    flat = pa.FixedSizeListArray.from_arrays(pa.array(PIXELS.reshape(-1)), 784)
    return pa.ExtensionArray.from_storage(kind, flat)


@pytest.mark.parametrize(
    "column",
    [
        {"image": STRUCTS},
        {"picture of it": STRUCTS},
        {"img": ENCODED},
        {"whatever": pa.array(ENCODED, pa.large_binary())},
        {"pixels": PIXELS.reshape(COUNT, -1).tolist()},
        {"image": PIXELS.tolist()},
        {"image": PIXELS[..., None].tolist()},
        {"x": pa.array(list(PIXELS.reshape(COUNT, -1)), pa.list_(pa.uint8()))},
        {"x": pa.array((PIXELS / 255).reshape(COUNT, -1).tolist(), pa.list_(pa.float32(), 784))},
        {"any name": tensors()},
    ],
    ids=["struct", "named", "binary", "large", "flat", "nested", "channels", "uint8", "float", "tensor"],
)
def test_every_layout_of_images_is_read(tmp_path: Path, column: dict[str, Any]) -> None:
    data = read(tmp_path, column)
    np.testing.assert_array_equal(data.images_NHWC[..., 0], PIXELS)
    assert (data.labels, data.name) == (None, "x.parquet")


@pytest.mark.parametrize("shape", [(28, 28, 3), (3, 28, 28)])
def test_features_state_the_shape_of_numbers(tmp_path: Path, shape: tuple[int, ...]) -> None:
    colour = np.random.default_rng(1).integers(0, 256, (COUNT, *shape), np.uint8)
    features = {"photo": {"_type": "Array3D", "shape": list(shape), "dtype": "uint8"}}
    data = read(tmp_path, {"photo": pa.array(list(colour.reshape(COUNT, -1)))}, features)
    expected = colour if shape[2] == 3 else colour.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(data.images_NHWC, expected)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pa.array(LABELS, pa.int8()), ("0", "1", "2")),
        (pa.array(["b", "a", "c10"] * 50), ("a", "b", "c10")),
        (pa.array(["b", "a", "c10"] * 50).dictionary_encode(), ("a", "b", "c10")),
        (pa.array([str(one) for one in LABELS]), ("0", "1", "2")),
        (pa.array([True, False] * 75), ("0", "1")),
    ],
)
def test_labels_are_ids_or_names(tmp_path: Path, labels: Any, names: tuple[str, ...]) -> None:
    data = read(tmp_path, {"image": STRUCTS, "target": labels})
    assert data.class_names == names
    assert data.labels is not None
    assert len(data.labels) == COUNT


def test_class_names_are_those_of_hugging_face(tmp_path: Path) -> None:
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog", "fox"]}}
    data = read(tmp_path, {"image": STRUCTS, "label": LABELS}, features)
    assert data.class_names == ("cat", "dog", "fox")
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, LABELS)


def test_a_dataset_of_the_hugging_face_library_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog", "fox"]),
            "id": datasets.Value("int64"),
        }
    )
    rows = {"image": STRUCTS, "label": LABELS.tolist(), "id": list(range(COUNT))}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "train-00000-of-00001.parquet"))
    data = read_data(str(tmp_path), ReadOptions())
    np.testing.assert_array_equal(data.images_NHWC[..., 0], PIXELS)
    assert data.class_names == ("cat", "dog", "fox")
    assert "dropped by --drop-columns, and never read: id" in data.notes


def test_files_of_the_training_split_alone_are_read(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        part = slice(0, 100) if name.startswith("train-00000") else slice(100, 150)
        parquet.write_table(pa.table({"image": STRUCTS[part]}), tmp_path / f"{name}.parquet")
    data = read_data(str(tmp_path), ReadOptions())
    np.testing.assert_array_equal(data.images_NHWC[..., 0], PIXELS)
    assert "of 3 files, the 2 of the split 'train' were read" in data.notes
    ranged = read_data(str(tmp_path / "train-{00000..00001}-of-00002.parquet"), ReadOptions())
    assert ranged.digest == data.digest
    with pytest.raises(DataError, match=r"1 of 3 files do not exist, such as .*train-00002-of-00002"):
        read_data(str(tmp_path / "train-{00000..00002}-of-00002.parquet"), ReadOptions())


def test_columns_that_identify_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    real = parquet.ParquetFile.iter_batches

    def iter_batches(self: Any, *args: Any, columns: list[str], **others: Any) -> Any:
        asked.append(columns)
        return real(self, *args, columns=columns, **others)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", iter_batches)
    columns = {
        "image": STRUCTS,
        "label": LABELS,
        "Patient": ["Doe"] * COUNT,
        "E-Mail": ["a@b.c"] * COUNT,
        "age": LABELS,
    }
    data = read(tmp_path, columns)
    assert {name for names in asked for name in names} == {"image.bytes", "label"}
    assert "dropped by --drop-columns, and never read: Patient, E-Mail" in data.notes
    assert "not read: age" in data.notes


def test_a_column_that_is_dropped_is_no_label(tmp_path: Path) -> None:
    assert read(tmp_path, {"image": STRUCTS, "label": LABELS}, drop_columns="lab*").labels is None
    with pytest.raises(DataError, match=r"its columns are label \(int64\), and 1 that --drop-columns drops\."):
        read(tmp_path, {"image": STRUCTS, "label": LABELS}, drop_columns="im*")
    with pytest.raises(ConfigError, match=r"label-column is 'label', which 'lab\*' in --drop-columns drops: .*'name'"):
        read(tmp_path, {"image": STRUCTS, "label": LABELS}, label_column="label", drop_columns="lab*,name")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"a": [1], "b": ["x"]},
            {},
            r"no column that is known to hold images; its columns are a \(int64\), b \(string\)",
        ),
        ({"a": STRUCTS, "b": STRUCTS}, {}, r"several columns of images \(a, b\): choose with --image-column"),
        ({"image": STRUCTS}, {"image_column": "img"}, "has no column 'img': it has image"),
        ({"image": STRUCTS, "age": LABELS}, {"image_column": "age"}, "column 'age' is int64, which holds no images"),
        ({"image": STRUCTS}, {"label_column": "y"}, "has no column 'y': it has image"),
        ({"image": STRUCTS, "label": [None, *LABELS[1:]]}, {}, "1 of 150 images have no label in column 'label'"),
        ({"image": STRUCTS, "label": LABELS / 2}, {}, "column 'label' has 0.0: labels are whole numbers or text"),
        ({"image": STRUCTS, "label": LABELS - 1}, {}, "has a label -1: number the classes from 0"),
        ({"image": STRUCTS, "label": LABELS * 100}, {}, "has a label 200 for 150 images"),
        (
            {"image": pa.array([{"bytes": None, "path": "a.png"}] * 9, FILES)},
            {},
            "row 0: .* only the path of a file",
        ),
        ({"image": [None] * 9 + [b"x"]}, {}, "row 0: its image is missing"),
        ({"x": [[1, 2, 3]] * 9}, {}, "flat list of 3 numbers, whose shape is not known: nest the lists"),
        ({"x": [[[1, 2], [3]]] * 9}, {}, "lists have different lengths"),
        ({"x": [[[1, None], [3, 4]]] * 9}, {}, "some of its numbers are missing"),
        ({"x": pa.array([[]] * 9, pa.list_(pa.uint8()))}, {}, "its lists have different lengths, or are empty"),
        ({"x": PIXELS[:, :, :, None].repeat(2, 3).tolist()}, {}, r"its shape is \[28, 28, 2\], so it is no image"),
        ({"image": pa.array([], pa.binary())}, {}, "holds no images"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_fix(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, columns, **options)


def test_few_bad_rows_are_left_out_with_their_labels(tmp_path: Path) -> None:
    structs = [*STRUCTS]
    structs[1] = {"bytes": b"no image", "path": "Jane Doe.png"}
    data = read(tmp_path, {"image": structs, "label": LABELS})
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, np.delete(LABELS, 1))
    np.testing.assert_array_equal(data.images_NHWC[..., 0], np.delete(PIXELS, 1, 0))
    (note,) = (note for note in data.notes if "left out" in note)
    assert note.startswith("1 of 150 rows were left out")
    assert "x.parquet: row 1: not an image" in note


def test_a_large_image_is_a_bad_row(tmp_path: Path) -> None:
    structs = [*STRUCTS]
    structs[7] = {"bytes": png(np.zeros((100, 100), np.uint8)), "path": None}
    with pytest.raises(DataError, match=r"row 7: 100×100 pixels, more than --max-image-pixels 784"):
        read(tmp_path, {"image": structs}, max_image_pixels=784, max_bad_share=0.0)


@pytest.mark.parametrize("cut", [0, 3, 4, 100, 20_000, -1, -9])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    read(tmp_path, {"image": STRUCTS, "label": LABELS})
    path = tmp_path / "x.parquet"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"x\.parquet cannot be read as Parquet \(.*\): fetch or write it again"):
        read_data(str(path), ReadOptions())


def test_damaged_pages_are_refused_or_seen_as_bad_images(tmp_path: Path) -> None:
    read(tmp_path, {"image": STRUCTS, "label": LABELS})
    path = tmp_path / "x.parquet"
    content = bytearray(path.read_bytes())
    content[10_000:12_000] = bytes(2_000)
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_data(str(path), ReadOptions())


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": STRUCTS, "label": LABELS}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"image": STRUCTS}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has no column 'label', which the first file has"):
        read_data(str(tmp_path), ReadOptions())
    parquet.write_table(pa.table({"image": ENCODED, "label": LABELS}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: column 'image' is binary, unlike in the first file"):
        read_data(str(tmp_path), ReadOptions())
