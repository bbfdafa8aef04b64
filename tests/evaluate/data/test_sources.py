"""Every kind of source is read as the rows that were written, and what cannot be read says why."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from columns_bundle import INCOME, make_columns_bundle
from evaluations import glyphs
from jobs import run_job
from PIL import Image
from pyarrow import csv, parquet
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.errors import DatasetError
from gen_engine.evaluate.data.options import DataOptions
from gen_engine.evaluate.data.rows import Table
from gen_engine.evaluate.data.sources import read_generated, read_rows
from gen_engine.evaluate.split import Split
from gen_engine.train.errors import DataError

IMAGES, LABELS = glyphs(40, 0)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "png")
    return file.getvalue()


def write_folder(at):
    for name in range(4):
        (at / f"stroke {name}").mkdir(parents=True)
    for row, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        (at / f"stroke {label}" / f"{row:03}.png").write_bytes(png(image))
    return at


def write_tar(at):
    path = at / "shard-0.tar"
    with tarfile.open(path, "w") as tar:
        for row, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            for suffix, data in (("png", png(image)), ("cls", str(label).encode()), ("json", b"{}")):
                member = tarfile.TarInfo(f"a/{row:03}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def write_hugging_face(at):
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": [f"s{i}" for i in range(4)]}}
    table = pa.table(
        {"image": [{"bytes": png(one), "path": None} for one in IMAGES], "label": LABELS.tolist()}
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (at / "data").mkdir()
    for split, rows in (("train", table.slice(0, 30)), ("test", table.slice(30))):
        parquet.write_table(rows, at / "data" / f"{split}-00000-of-00001.parquet")
    return at


def write_npz(at):
    np.savez(at / "x.npz", images=IMAGES, labels=LABELS)
    return at / "x.npz"


@pytest.mark.parametrize("write", [write_folder, write_tar, write_npz])
def test_images_and_classes_come_back(write, tmp_path):
    split = read_rows(str(write(tmp_path)), "train", DataOptions())
    assert isinstance(split, Split)
    assert len(split.classes or ()) == 4
    order = np.argsort(LABELS, kind="stable") if write is write_folder else np.arange(40)
    np.testing.assert_array_equal(split["image"], IMAGES[order])
    np.testing.assert_array_equal(split.class_ids, LABELS[order])


def test_hugging_faces_layout_has_its_own_splits_and_names(tmp_path):
    place = str(write_hugging_face(tmp_path))
    train, test = (read_rows(place, role, DataOptions()) for role in ("train", "test"))
    assert isinstance(train, Split)
    assert isinstance(test, Split)
    assert (len(train), len(test)) == (30, 10)
    assert train.classes == ("s0", "s1", "s2", "s3")
    np.testing.assert_array_equal(test["image"], IMAGES[30:])
    assert any("split 'train'" in note for note in train.notes)


@pytest.mark.parametrize("form", ["npy", "webdataset", "parquet"])
def test_a_dataset_of_ours_is_read_and_drawn_from(form, tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny.gen", size=6)
    run_job(bundle, tmp_path / "out", count=70, shard_size=30, format=form)
    generated = read_generated(bundle, 70, DataOptions())
    whole = read_rows(str(tmp_path / "out"), "synthetic", DataOptions())
    assert isinstance(whole, Split)
    assert isinstance(generated, Split)
    np.testing.assert_array_equal(whole["image"], generated["image"])
    np.testing.assert_array_equal(whole.class_ids, generated.class_ids)
    drawn = read_rows(str(tmp_path / "out"), "synthetic", DataOptions(rows=20, seed=3))
    assert isinstance(drawn, Split)
    assert len(drawn) == 20
    assert drawn.notes == ("20 of 70 rows were drawn at random and read",)
    rows = {one.tobytes() for one in np.asarray(whole["image"])}
    assert all(one.tobytes() in rows for one in np.asarray(drawn["image"]))
    assert len({one.tobytes() for one in np.asarray(drawn["image"])}) == 20


def test_tables_come_back(tmp_path):
    table = pa.table({"age": [31, None, 5], "name, with comma": ["a\nb", 'c"d', None], "x": [0.5, 1.5, None]})
    csv.write_csv(table, tmp_path / "x.csv")
    parquet.write_table(table, tmp_path / "x.parquet")
    for name in ("x.csv", "x.parquet"):
        read = read_rows(str(tmp_path / name), "train", DataOptions())
        assert isinstance(read, Table)
        assert read.arrow.to_pydict() == table.to_pydict()


def test_a_matrix_is_a_table(tmp_path):
    np.savez(tmp_path / "x.npz", X=np.arange(6.0).reshape(3, 2), y=np.array([0, 1, 1]))
    read = read_rows(str(tmp_path / "x.npz"), "train", DataOptions())
    assert isinstance(read, Table)
    assert read.arrow.column_names == ["column 0", "column 1", "target"]


@pytest.mark.parametrize(
    ("name", "content", "error", "reason"),
    [
        ("missing", None, DatasetError, "does not exist"),
        ("x.txt", b"hello", DatasetError, r"ends in \.txt"),
        ("x.csv", b"", DatasetError, "cannot be read as CSV"),
        ("x.csv", b"a,b\n", DatasetError, "has no rows"),
        ("x.csv", b"a,a\n1,2\n", DatasetError, "'a' twice"),
        ("x.csv", b"a,b\n1,2\n3\n", DatasetError, "cannot be read as CSV"),
        ("x.csv", b"a\n\xff\xfe\xff\n", DatasetError, "UTF-8"),
        ("x.parquet", b"PAR1junkPAR1", DatasetError, "cannot be read as Parquet"),
        ("x.tar", b"no tar at all", DatasetError, "cannot be read as a tar"),
        ("x.npz", b"PK\x03\x04junk", DataError, "cannot be read as NumPy arrays"),
    ],
)
def test_bad_files_say_what_is_wrong(name, content, error, reason, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=reason):
        read_rows(str(tmp_path / name), "train", DataOptions())


def test_tars_without_images_or_with_some_classes_are_refused(tmp_path):
    def write(members):
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            for name, data in members:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))

    one = png(IMAGES[0])
    write([("a.txt", b"x")])
    with pytest.raises(DatasetError, match="holds no images"):
        read_rows(str(tmp_path / "x.tar"), "train", DataOptions())
    write([("a.png", one), ("a.cls", b"0"), ("b.png", one)])
    with pytest.raises(DatasetError, match=r"1 of 2 samples have a \.cls"):
        read_rows(str(tmp_path / "x.tar"), "train", DataOptions())
    write([("a.png", one), ("a.cls", b"dog")])
    with pytest.raises(DatasetError, match="no class id"):
        read_rows(str(tmp_path / "x.tar"), "train", DataOptions())
    write([("a.png", one), ("b.png", b"damaged")])
    with pytest.raises(DataError, match=r"1 of 2 files .*--max-bad-share"):
        read_rows(str(tmp_path / "x.tar"), "train", DataOptions())


def test_files_of_one_table_must_have_the_same_columns(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DatasetError, match="different columns: b, c"):
        read_rows(str(tmp_path), "train", DataOptions())
    (tmp_path / "b.csv").write_text("b,a\n2.5,3\n")
    read = read_rows(str(tmp_path), "train", DataOptions())
    assert isinstance(read, Table)
    assert read.arrow.to_pydict() == {"a": [1, 3], "b": [2.0, 2.5]}


def test_an_unfinished_dataset_is_refused(tmp_path):
    (tmp_path / ".gen-engine").mkdir()
    (tmp_path / ".gen-engine" / "plan.json").write_text("{}")
    with pytest.raises(DatasetError, match="not finished"):
        read_rows(str(Path(tmp_path)), "synthetic", DataOptions())


def test_a_table_of_ours_has_its_columns_names_types_and_missing_values(tmp_path):
    bundle = make_columns_bundle(tmp_path / "odd.gen", labels=INCOME)
    run_job(bundle, tmp_path / "npy", count=60, format="npy")
    run_job(bundle, tmp_path / "parquet", count=60, format="parquet")
    table = read_rows(str(tmp_path / "npy"), "synthetic", DataOptions())
    (path,) = (tmp_path / "parquet" / "data").iterdir()
    written = parquet.read_table(path)
    assert isinstance(table, Table)
    assert table.labels == {INCOME.title}
    assert table.arrow.column_names == written.column_names
    for name in written.column_names:
        assert table.arrow[name].to_pylist() == written[name].to_pylist() or "ns" in name, name
    assert table.arrow["ns"].cast(pa.int64()).equals(written["ns"].cast(pa.int64()))
