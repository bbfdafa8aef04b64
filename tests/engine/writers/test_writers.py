"""The formats: their contract, and what is special about each."""

from __future__ import annotations

import builtins
import csv
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from mosaicml import MDSWriter, StreamingDataset
from numpy.typing import NDArray
from numpy_only import numpy_only
from PIL import Image
from tfrecord.example_pb2 import Example
from tfrecord.reader import tfrecord_iterator, tfrecord_loader
from tfrecord.writer import TFRecordWriter

from gen_engine.engine.codecs import open_codec
from gen_engine.engine.errors import RequestError, VerifyError, WriterError, WriterUnavailable
from gen_engine.engine.sample.schema import Batch, Layout
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.testing import (
    CLASS_NAMES,
    SEED,
    SHAPES,
    START,
    STOP,
    Data,
    Decoded,
    FormatContract,
    StoresLatents,
    make_schema,
)
from gen_engine.engine.writers import FORMATS, mds, open_format, parquet

Origins = Iterator[tuple[int, int, NDArray[np.float32]]]


def load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return ``tmp_path/out`` through Hugging Face's own reader, with no network and no cache but ours."""
    for variable in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))


class TestNpy(FormatContract):
    name = "npy"

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        kind = f"{data.field.name}s"
        for images in sorted(out.glob(f"data/*.{kind}.npy")):
            pixels = np.load(images, mmap_mode="r")
            index = np.load(str(images).replace(kind, "index"), mmap_mode="r")
            labels = None
            if data.labels is not None:
                labels = np.load(str(images).replace(kind, "labels"), mmap_mode="r")
                assert labels.dtype == np.int64
            assert (pixels.dtype, index.dtype) == (data.pixels.dtype, np.int64)
            for row, i in enumerate(index):
                yield int(i), None if labels is None else int(labels[row]), pixels[row]

    def load_latents(self, out: Path, data: Data) -> Origins:
        for path in sorted(out.glob("data/*.index.npy")):
            others = (np.load(str(path).replace("index", kind)) for kind in ("seed", "latents"))
            yield from zip(np.load(path).tolist(), *others, strict=True)

    def test_is_what_numpy_saves(self, tmp_path: Path) -> None:
        data = self.data(CLASS_NAMES)
        arrays = [data.pixels[START:], np.asarray(data.labels)[START:], np.arange(START, STOP)]
        if data.latents is not None:
            arrays += [data.latents[START:], np.full(STOP - START, SEED, np.uint64)]
        for file, array in zip(self.write_dataset(tmp_path / "out", data), arrays, strict=True):
            saved = io.BytesIO()
            np.save(saved, array)
            assert file.read_bytes() == saved.getvalue()


class TestWebDataset(FormatContract):
    name = "webdataset"

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        urls = [str(path) for path in sorted(out.glob("data/*.tar"))]
        for sample in webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"):
            assert ("cls" in sample) == (data.labels is not None)
            yield int(sample["__key__"]), sample.get("cls"), sample["npy" if self.codec == "raw" else "png"]

    def load_latents(self, out: Path, data: Data) -> Origins:
        urls = [str(path) for path in sorted(out.glob("data/*.tar"))]
        for sample in webdataset.WebDataset(urls, shardshuffle=False).decode():
            known = sample["json"]
            assert known.get("label") == data.label(known["index"])
            yield known["index"], known["seed"], sample["latents.npy"]

    def test_tar_and_tarfile_list_it(self, tmp_path: Path) -> None:
        (path,) = self.write_dataset(tmp_path / "out", self.data(CLASS_NAMES))
        listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True)
        assert listed.stderr == ""
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
        kinds = [open_codec(self.codec).extension, "cls", *([] if self.latent_dim is None else ["latents.npy", "json"])]
        expected = [f"{index:012d}.{kind}" for index in range(START, STOP) for kind in kinds]
        assert listed.stdout.split() == [member.name for member in members] == expected
        attributes = {(m.mode, m.uid, m.gid, m.mtime, m.type, m.uname, m.gname, m.linkname) for m in members}
        assert attributes == {(0o644, 0, 0, 0, tarfile.REGTYPE, "", "", "")}

    def test_hugging_face_reads_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Its reader makes a column of the numbers in JSON, which holds int64.
        data = Data(CLASS_NAMES, kind=self.kind, latent_dim=self.latent_dim, seed=2**63 - 1)
        self.write_dataset(tmp_path / "out", data)
        for row in load_dataset(tmp_path, monkeypatch):
            index = int(row["__key__"])
            assert row["cls"] == data.label(index)
            if data.latents is not None:
                assert row["json"]["seed"] == 2**63 - 1
                np.testing.assert_array_equal(np.asarray(row["latents.npy"], np.float32), data.latents[index])
            pixels = row["npy"] if self.codec == "raw" else row["png"]
            np.testing.assert_array_equal(np.asarray(pixels, data.pixels.dtype), data.pixels[index])

    def test_large_members_and_indices(self, tmp_path: Path) -> None:
        schema = make_schema((300, 300, 4))
        layout = Layout(schema=schema, shards=1)
        shard = Shard(number=0, start=10**12 - 1, stop=10**12)
        pixels = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 4), dtype=np.uint8)
        writer = self.format.open(tmp_path, layout, shard, open_codec(self.codec))
        writer.append(Batch(shard.start, {"image": pixels, "index": np.array([shard.start])}))
        (file,) = writer.commit()
        with tarfile.open(file.temporary) as tar:
            (member,) = tar.getmembers()
            assert member.name.startswith("999999999999.")
            assert member.size == len(open_codec(self.codec).encode(pixels).pieces()[0])


class TestWebDatasetOfArrays(TestWebDataset):
    codec = "raw"


class TestWebDatasetOfAudio(StoresLatents, TestWebDatasetOfArrays):
    kind = "audio"


class TestWebDatasetWithOrigins(StoresLatents, TestWebDataset):
    """Of pictures with labels and without."""


class TestParquet(FormatContract):
    name = "parquet"

    @pytest.mark.parametrize("error", [pa.ArrowNotImplementedError, pa.ArrowMemoryError, pa.ArrowException])
    def test_what_arrow_raises_on_a_damaged_shard_is_typed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        """As a damaged footer does whose integers have more than 64 bits."""
        data = self.data(CLASS_NAMES)
        files = self.write_dataset(tmp_path / "out", data)

        def read_row_group(*_: object) -> None:
            raise error("Integers with more than 64 bits")

        monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
        with pytest.raises(VerifyError, match=r"cannot be read as a Parquet shard \(Integers with more"):
            self.read(files, data, [START])

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            dataset = load_dataset(out.parent, monkeypatch)
        self.check_features(dataset.features, data)
        for row in dataset:
            yield row["index"], row.get("label"), np.asarray(row[data.field.name], data.pixels.dtype)

    def load_latents(self, out: Path, data: Data) -> Origins:
        with pytest.MonkeyPatch.context() as monkeypatch:
            dataset = load_dataset(out.parent, monkeypatch)
        assert (dataset.features["latents"].length, dataset.features["seed"].dtype) == (3, "uint64")
        for row in dataset:
            yield row["index"], row["seed"], np.asarray(row["latents"], np.float32)

    def check_features(self, features: Any, data: Data) -> None:
        if data.labels is not None:
            assert tuple(features["label"].names) == data.layout.schema.class_names
        noun = data.field.name
        names = [noun, "index"] if data.labels is None else [noun, "label", "index"]
        assert list(features) == (names if self.latent_dim is None else [*names, "latents", "seed"])
        if self.kind == "vector":
            assert (features[noun].length, features[noun].feature.dtype) == (data.field.sizes[0], "float32")
        elif self.codec == "raw":
            assert (features[noun].shape, features[noun].dtype) == (data.field.sizes, data.field.dtype)
        else:
            assert type(features["image"]).__name__ == "Image"

    def test_row_groups_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = self.data(CLASS_NAMES)

        def group_rows(out: Path) -> list[int]:
            (path,) = self.write_dataset(out, data)
            metadata = pq.read_metadata(path)
            return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

        assert group_rows(tmp_path / "rows") == [8, 8, 8, 2]
        monkeypatch.setattr(parquet, "GROUP_BYTES", 10 * data.pixels[0].nbytes // 2)
        assert group_rows(tmp_path / "bytes") == [5, 5, 5, 5, 5, 1]
        monkeypatch.setattr(parquet, "GROUP_BYTES", 1)
        assert group_rows(tmp_path / "one") == [1] * (STOP - START)

    def test_columns(self, tmp_path: Path) -> None:
        (path,) = self.write_dataset(tmp_path / "out", self.data(CLASS_NAMES))
        group = pq.read_metadata(path).row_group(0)
        columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        image = next(column for name, column in columns.items() if name.startswith(("image", "sample")))
        assert not image.is_stats_set
        assert columns["index"].statistics.min == START
        if self.codec != "raw":
            assert image.compression == "UNCOMPRESSED"
            assert not image.has_dictionary_page
            table = pq.read_table(path)
            assert table["image"][0]["path"].as_py() == "000000000005.png"
            assert table["index"].to_pylist() == list(range(START, STOP))

    def test_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        true_import = builtins.__import__

        def without(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.split(".")[0] == "pyarrow":
                raise ModuleNotFoundError("No module named 'pyarrow'")
            return true_import(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(WriterUnavailable, match=r"pip install 'gen-engine\[parquet\]'"):
            open_format("parquet")


class TestParquetOfArrays(TestParquet):
    codec = "raw"

    def test_a_byte_of_pixels_is_about_a_byte(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parquet, "GROUP_ROWS", 1000)
        data = Data(None, (64, 64, 3))
        (path,) = self.write_dataset(tmp_path / "out", data)
        assert path.stat().st_size < 1.05 * data.pixels[START:].nbytes


class TestParquetWithOrigins(StoresLatents, TestParquet):
    """Of pictures with labels and without."""


class TestNpyOfVolumes(TestNpy):
    kind = "volume"


class TestNpyWithOrigins(StoresLatents, TestNpy):
    """Of pictures with labels and without."""


class _ParquetOfFloats(TestParquet):
    codec = "raw"
    __test__ = False

    def test_a_value_takes_about_its_four_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parquet, "GROUP_ROWS", 1000)
        data = Data(None, tuple(40 * size for size in SHAPES[self.kind][:2]) + SHAPES[self.kind][2:], self.kind)
        (path,) = self.write_dataset(tmp_path / "out", data)
        assert path.stat().st_size < 1.1 * data.pixels[START:].nbytes + 2000


class TestParquetOfAudio(_ParquetOfFloats):
    kind = "audio"
    __test__ = True


class TestParquetOfVolumes(_ParquetOfFloats):
    kind = "volume"
    __test__ = True


class TestParquetOfVectors(StoresLatents, _ParquetOfFloats):
    kind = "vector"
    __test__ = True


class TestMds(FormatContract):
    name = "mds"

    def streamed(self, out: Path) -> Iterator[dict[str, Any]]:
        """Yield what MosaicML's reader fetches as from a remote place, and checks against the hashes."""
        cache = out.parent / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        dataset = StreamingDataset(
            remote=str(out / "data"), local=str(cache), validate_hash="sha256", shuffle=False, batch_size=1
        )
        yield from (dataset[i] for i in range(len(dataset)))

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        for sample in self.streamed(out):
            yield int(sample["index"]), sample.get("label"), np.asarray(sample[data.field.name])

    def load_latents(self, out: Path, data: Data) -> Origins:
        for sample in self.streamed(out):
            yield int(sample["index"]), int(sample["seed"]), sample["latents"]

    def test_is_what_its_own_writer_writes(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        self.write_dataset(tmp_path / "out", data)
        ours = json.loads((tmp_path / "out" / "data" / "index.json").read_text())
        columns = dict(zip(ours["shards"][0]["column_names"], ours["shards"][0]["column_encodings"], strict=True))
        theirs = tmp_path / "theirs"
        with MDSWriter(columns=columns, out=str(theirs), hashes=["sha256"], size_limit=None) as writer:
            for i in range(START, STOP):
                known = {"index": i, "label": data.label(i), "seed": SEED}
                if data.latents is not None:
                    known["latents"] = data.latents[i]
                known[data.field.name] = (
                    data.pixels[i] if self.codec == "raw" else self.payload(data.field, data.pixels[i])
                )
                writer.write({name: known[name] for name in columns})
        shard = tmp_path / "out" / "data" / "shard.00001.mds"
        assert shard.read_bytes() == (theirs / "shard.00000.mds").read_bytes()
        (listed,) = json.loads((theirs / "index.json").read_text())["shards"]
        listed["raw_data"]["basename"] = shard.name
        assert ours["shards"][1] == listed
        assert (tmp_path / "out" / "data" / "index.json").read_text() == json.dumps(ours, sort_keys=True)

    def test_a_shard_beyond_its_offsets_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = self.data(CLASS_NAMES)
        (path,) = self.write_dataset(tmp_path / "out", data)
        monkeypatch.setattr(mds, "OFFSETS_END", path.stat().st_size)
        writer = self.open(tmp_path, data)
        with pytest.raises(
            WriterError, match=r"shard.00001.mds: it has .* choose a smaller --shard-size or --shard-bytes"
        ):
            data.write(writer, START, STOP, 4)
        writer.abort()
        monkeypatch.setattr(mds, "OFFSETS_END", path.stat().st_size + 1)
        writer = self.open(tmp_path, data)
        data.write(writer, START, STOP, 4)
        writer.commit()
        writer.abort()

    @pytest.mark.parametrize("harm", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
    @pytest.mark.parametrize("at", [0, 4, 8, 4 * 27])
    def test_damaged_offsets_are_no_crash(self, tmp_path: Path, harm: bytes, at: int) -> None:
        data = self.data(CLASS_NAMES)
        (path,) = self.write_dataset(tmp_path / "out", data)
        content = bytearray(path.read_bytes())
        content[at : at + 4] = harm
        path.write_bytes(content)
        with pytest.raises(VerifyError, match=r"shard\.00001\.mds"):
            self.read([path], data, range(START, STOP))


class TestMdsOfArrays(TestMds):
    codec = "raw"


class TestMdsOfJpegs(TestMds):
    codec = "jpeg"

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        for index, label, pixels in super().load(out, data):
            np.testing.assert_array_equal(
                pixels, np.asarray(Image.open(io.BytesIO(self.payload(data.field, data.pixels[index]))))
            )
            yield index, label, data.pixels[index]  # what it decodes to is near them, as the codec's own tests show


class TestMdsOfVolumes(StoresLatents, TestMds):
    codec = "raw"
    kind = "volume"


class TestMdsWithOrigins(StoresLatents, TestMds):
    """Of pictures with labels and without."""


class TestTfRecord(FormatContract):
    name = "tfrecord"

    def records(self, path: Path) -> list[bytes]:
        return [bytes(record) for record in tfrecord_iterator(str(path))]

    def features(self, out: Path) -> Iterator[dict[str, Any]]:
        for path in sorted(out.glob("data/train.tfrecord-*")):
            for features in tfrecord_loader(str(path), None):
                assert all(features[name].dtype == np.int64 for name in ("index", "label") if name in features)
                yield features

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        for features in self.features(out):
            label = None if data.labels is None else int(features["label"][0])
            assert ("label" in features) == (label is not None)
            if self.kind != "image":
                pixels = features["sample"].reshape(features["shape"])
            elif self.codec == "raw":
                pixels = np.frombuffer(features["image"], np.uint8).reshape(features["shape"])
            else:
                pixels = np.asarray(Image.open(io.BytesIO(features["image"])))
            yield int(features["index"][0]), label, pixels

    def load_latents(self, out: Path, data: Data) -> Origins:
        for features in self.features(out):
            yield int(features["index"][0]), int(features["seed"][0]) % 2**64, features["latents"]

    def test_framing_and_checksums(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        """By TFRecord's definition, with a CRC-32C that is not ours."""
        (path,) = self.write_dataset(tmp_path / "out", self.data(names))

        def masked(data: bytes) -> bytes:
            crc = crc32c.crc32c(data)
            return (((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32).to_bytes(4, "little")

        records = self.records(path)
        lengths = [len(record).to_bytes(8, "little") for record in records]
        framed = [
            length + masked(length) + record + masked(record) for length, record in zip(lengths, records, strict=True)
        ]
        assert path.read_bytes() == b"".join(framed)
        assert len(records) == STOP - START

    def test_a_record_is_what_protobuf_makes_of_it(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        """Up to the order of the map, which is free: as long, and without a field that it does not know."""
        (path,) = self.write_dataset(tmp_path / "out", self.data(names))
        for record in self.records(path):
            example = Example.FromString(record)
            example.DiscardUnknownFields()
            assert len(example.SerializeToString()) == len(record)

    @pytest.mark.parametrize("at", [0, 7, 9, 40, -5, -1])
    def test_a_bit_that_flips_is_found(self, tmp_path: Path, at: int) -> None:
        data = self.data(CLASS_NAMES)
        (path,) = self.write_dataset(tmp_path / "out", data)
        content = bytearray(path.read_bytes())
        content[at] ^= 4
        path.write_bytes(content)
        with pytest.raises(VerifyError, match=r"cannot be read as a TFRecord shard .*is damaged"):
            self.read([path], data, range(START, STOP))

    def test_a_record_of_something_else_is_no_crash(self, tmp_path: Path) -> None:
        for number, record in enumerate([b"", b"\x08\x01", b"\x0a\x05abc", b"\xff" * 11, b"\x0a\x00"]):
            path = tmp_path / f"{number}"
            length = len(record).to_bytes(8, "little")
            path.write_bytes(length + TFRecordWriter.masked_crc(length) + record + TFRecordWriter.masked_crc(record))
            with pytest.raises(VerifyError, match="cannot be read as a TFRecord shard"):
                self.read([path], self.data(None), [START])

    def test_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "google_crc32c", None)
        open_format("tfrecord").check_available()  # the compiled core computes the checksums
        with numpy_only(), pytest.raises(WriterUnavailable, match=r"pip install 'gen-engine\[tfrecord\]'"):
            open_format("tfrecord")


class TestTfRecordOfArrays(StoresLatents, TestTfRecord):
    codec = "raw"


class TestTfRecordOfAudio(TestTfRecord):
    codec = "raw"
    kind = "audio"


class TestTfRecordWithOrigins(StoresLatents, TestTfRecord):
    """Of pictures with labels and without."""


def lines_of_csv(out: Path, data: Data) -> Iterator[Decoded]:
    names = data.layout.schema.class_names
    for path in sorted(out.glob("data/*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file, strict=True):
                label = None if names is None else names.index(row["label"])
                yield int(row["index"]), label, np.array(row["sample"], np.float64).astype(np.float32)


class TestCsv(FormatContract):
    name = "csv"
    kind = "float"

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        return lines_of_csv(out, data)


class TestEscapedCsv(FormatContract):
    name = "csv-escaped"
    kind = "float"

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        return lines_of_csv(out, data)


def test_every_format_has_a_contract_test() -> None:
    assert set(FORMATS) == {one.name for one in FormatContract.__subclasses__() if one is not StoresLatents}


def test_an_unknown_format_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        RequestError, match="unknown format 'hdf5': choose one of npy, webdataset, parquet, mds, tfrecord, csv"
    ):
        open_format("hdf5")


def test_features_for_hugging_face_are_pinned(tmp_path: Path) -> None:
    data = Data(CLASS_NAMES)
    (path,) = TestParquet().write_dataset(tmp_path / "out", data)
    assert json.loads(pq.read_schema(path).metadata[b"huggingface"]) == {
        "info": {
            "features": {
                "image": {"_type": "Image"},
                "label": {"names": list(CLASS_NAMES), "_type": "ClassLabel"},
                "index": {"dtype": "int64", "_type": "Value"},
            }
        }
    }
    assert Image.open(io.BytesIO(pq.read_table(path)["image"][3]["bytes"].as_py())).size == (5, 6)
