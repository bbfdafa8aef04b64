"""Shard writers against the usual library, with images that are already encoded.

Our writers hash and fsync what they write, so the files of the others are hashed and synced afterwards.
Work: the bytes of the images. Limit: one large file written and synced.
"""

from __future__ import annotations

import os
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset
from blake3 import blake3
from limits import disk_write
from mosaicml import MDSWriter
from numpy.typing import NDArray
from tfrecord.writer import TFRecordWriter

from gen_engine.engine.codecs import open_codec
from gen_engine.engine.sample.schema import Batch, Field, Layout, Ragged, Schema
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers import open_format

SHAPE = (28, 28, 1)
BATCH = 500


class Encoded:
    """A codec that returns files which are already encoded, in order."""

    name = identity = extension = "png"
    kinds = frozenset({"image"})

    def __init__(self, files: list[bytes]) -> None:
        self._rest = iter(files)

    def encode(self, values_B: NDArray[np.uint8]) -> Ragged:
        """Return as many files as there are images."""
        return Ragged.of_pieces(list(islice(self._rest, len(values_B))))


class Job:
    """One shard of noise with labels."""

    def __init__(self, real: bool, scratch: Path, name: str) -> None:
        self.count = BATCH * (20 if real else 1)
        self.scratch = scratch
        self.pixels = np.random.default_rng(0).integers(0, 256, (self.count, *SHAPE), dtype=np.uint8)
        self.labels = np.arange(self.count) % 10
        self.files = open_codec("png").encode(self.pixels).pieces()
        self.format = open_format(name)
        fields = (
            Field(name="image", kind="image", dtype="uint8", shape=SHAPE),
            Field(name="label", kind="label", dtype="int64", categories=tuple("0123456789")),
            Field(name="index", kind="index", dtype="int64"),
        )
        self.layout = Layout(schema=Schema(fields), shards=1)

    def write(self) -> None:
        """Write the shard and remove it."""
        shard = Shard(number=0, start=0, stop=self.count)
        writer = self.format.open(self.scratch, self.layout, shard, Encoded(self.files))
        for start in range(0, self.count, BATCH):
            stop = start + BATCH
            columns = {"image": self.pixels, "label": self.labels, "index": np.arange(self.count)}
            writer.append(Batch(start, {name: column[start:stop] for name, column in columns.items()}))
        writer.commit()
        writer.abort()


def seal(*paths: Path) -> None:
    """Hash the files and sync them."""
    for path in paths:
        with path.open("r+b") as file:
            blake3(file.read()).hexdigest()
            os.fsync(file.fileno())


def test_webdataset(against, tmp_path: Path) -> None:
    """Unit: 10,000 samples per round, a tar with png and cls. Peer: webdataset.TarWriter."""
    job = Job(against.real, tmp_path, "webdataset")

    def tar_writer() -> None:
        with webdataset.TarWriter(str(tmp_path / "theirs.tar"), mtime=0) as tar:
            for index in range(job.count):
                tar.write({"__key__": f"{index:012d}", "png": job.files[index], "cls": int(job.labels[index])})
        seal(tmp_path / "theirs.tar")

    limit = disk_write(tmp_path)
    ratios = against(job.write, tar_writer, rounds=10, limit=limit, work=sum(map(len, job.files)))
    against.require_ratio("WebDataset speed over webdataset.TarWriter's", ratios, at_least=10)


def test_npy(against, tmp_path: Path) -> None:
    """Unit: 10,000 samples per round. Peer: np.save of the same arrays, all of them in memory."""
    job = Job(against.real, tmp_path, "npy")

    def save() -> None:
        paths = [tmp_path / f"{name}.npy" for name in ("images", "labels", "index")]
        np.save(paths[0], job.pixels)
        np.save(paths[1], job.labels)
        np.save(paths[2], np.arange(job.count))
        seal(*paths)

    ratios = against(job.write, save, rounds=10, limit=disk_write(tmp_path), work=job.pixels.nbytes)
    against.require_ratio("npy speed over np.save's", ratios, at_least=0.5)


def test_parquet(against, tmp_path: Path) -> None:
    """Unit: 10,000 samples per round, with the image struct. Peer: pyarrow's write_table with its defaults."""
    job = Job(against.real, tmp_path, "parquet")

    def write_table() -> None:
        images = [{"bytes": file, "path": f"{index:012d}.png"} for index, file in enumerate(job.files)]
        columns = {"image": images, "label": job.labels, "index": np.arange(job.count)}
        pq.write_table(pa.table(columns), tmp_path / "theirs.parquet")
        seal(tmp_path / "theirs.parquet")

    limit = disk_write(tmp_path)
    ratios = against(job.write, write_table, rounds=10, limit=limit, work=sum(map(len, job.files)))
    against.require_ratio("Parquet speed over pyarrow's write_table", ratios, at_least=0.7)


def test_mds(against, tmp_path: Path) -> None:
    """Unit: 10,000 samples per round, with the columns image, label and index. Peer: mosaicml-streaming's MDSWriter.

    Both compute the SHA-256 that the index contains.
    """
    job = Job(against.real, tmp_path, "mds")
    columns = {"image": "png", "label": "int64", "index": "int64"}

    def mds_writer() -> None:
        shutil.rmtree(tmp_path / "theirs", ignore_errors=True)
        with MDSWriter(columns=columns, out=str(tmp_path / "theirs"), hashes=["sha256"], size_limit=None) as writer:
            for index, file in enumerate(job.files):
                writer.write({"image": file, "label": int(job.labels[index]), "index": index})
        seal(tmp_path / "theirs" / "shard.00000.mds")

    limit = disk_write(tmp_path)
    ratios = against(job.write, mds_writer, rounds=10, limit=limit, work=sum(map(len, job.files)))
    against.require_ratio("MDS speed over mosaicml-streaming's MDSWriter", ratios, at_least=3)


def test_tfrecord(against, tmp_path: Path) -> None:
    """Unit: 10,000 samples per round, with the features image, label and index. Peer: the package tfrecord's writer."""
    job = Job(against.real, tmp_path, "tfrecord")

    def tfrecord_writer() -> None:
        writer = TFRecordWriter(str(tmp_path / "theirs.tfrecord"))
        for index, file in enumerate(job.files):
            writer.write({"image": (file, "byte"), "label": (int(job.labels[index]), "int"), "index": (index, "int")})
        writer.close()
        seal(tmp_path / "theirs.tfrecord")

    limit = disk_write(tmp_path)
    ratios = against(job.write, tfrecord_writer, rounds=10, limit=limit, work=sum(map(len, job.files)))
    against.require_ratio("TFRecord speed over tfrecord.TFRecordWriter's", ratios, at_least=3)
