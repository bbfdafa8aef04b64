"""Datasets that gen-engine wrote, in every format, are training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jobs import run_job
from table_bundle import make_table_bundle
from tiny_bundle import CLASSES, make_tiny_bundle

from gen_engine.engine.errors import DatasetError, VerifyError
from gen_engine.engine.generator import Generator
from gen_engine.engine.sample.schema import Column
from gen_engine.train.data import ReadOptions, read_data
from gen_engine.train.errors import ConfigError, DataError


def generated(bundle: object, count: int) -> tuple[Column, Column]:
    with Generator.open(bundle) as generator:  # type: ignore[arg-type]
        batch = generator.columns(0, count)
        return batch["image"], batch["label"]


@pytest.mark.parametrize("form", ["npy", "webdataset", "parquet", "tfrecord", "mds"])
def test_every_format_is_read_with_its_classes(tmp_path: Path, form: str) -> None:
    bundle = make_tiny_bundle(tmp_path / "tiny.gen")
    run_job(bundle, tmp_path / "out", count=70, shard_size=30, format=form)
    data = read_data(str(tmp_path / "out"), ReadOptions())
    images, labels = generated(bundle, 70)
    np.testing.assert_array_equal(data.images_NHWC, images)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.class_names == CLASSES
    assert data.name == "out"
    assert data.notes[0].startswith("70 samples of a dataset in format")
    cached = ReadOptions(cache=str(tmp_path / "cache"), max_data_size=1000)
    assert [read_data(str(tmp_path / "out"), cached).digest for _ in range(2)] == [data.digest] * 2


def test_one_of_several_fields_is_the_image(tmp_path: Path) -> None:
    bundle = make_table_bundle(tmp_path / "tiny.gen")
    run_job(bundle, tmp_path / "out", count=40, shard_size=30, format="npy")
    with pytest.raises(DataError, match=r"has several images per sample: choose with --image-column; .*mask \(image\)"):
        read_data(str(tmp_path / "out"), ReadOptions())
    data = read_data(str(tmp_path / "out"), ReadOptions(image_column="mask", image_size=28))
    assert data.images_NHWC.shape == (40, 28, 28, 1)
    assert any(note.startswith("uint16 values from ") for note in data.notes)
    assert any(note.startswith("not read: ") and "embedding" in note for note in data.notes)
    colour = read_data(str(tmp_path / "out"), ReadOptions(image_column="image", label_column="colour"))
    assert colour.class_names == ("red", "green", "blue")
    with pytest.raises(ConfigError, match=r"label-column is 'size', and .* has the fields image"):
        read_data(str(tmp_path / "out"), ReadOptions(image_column="image", label_column="size"))
    with pytest.raises(DataError, match="holds no images in 'Age': its fields are image"):
        read_data(str(tmp_path / "out"), ReadOptions(image_column="Age"))


def test_a_dataset_that_is_not_finished_or_damaged_is_refused(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "tiny.gen")
    run_job(bundle, tmp_path / "out", count=70, shard_size=30, format="webdataset")
    shard = min((tmp_path / "out" / "data").iterdir())
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(VerifyError):
        read_data(str(tmp_path / "out"), ReadOptions())
    (tmp_path / "out" / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError):
        read_data(str(tmp_path / "out"), ReadOptions())
