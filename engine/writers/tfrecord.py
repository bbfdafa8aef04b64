"""TFRecord shards of tf.train.Example records.

A record is the length of its data (uint64), the masked CRC-32C of these eight bytes, the data, and its masked CRC-32C,
all little-endian (``tensorflow/core/lib/io/record_writer.h``). The data is an Example, see
:mod:`gen_engine.engine.writers.example`.

Shape suffixes: B samples.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import RequestError, WriterUnavailable
from gen_engine.engine.native import core
from gen_engine.engine.native.contract import RecordColumn
from gen_engine.engine.sample.schema import Batch, Column, Field, Layout, Ragged, Record
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers import example
from gen_engine.engine.writers.contract import ShardFile
from gen_engine.engine.writers.example import BYTES, FLOATS, INTEGERS
from gen_engine.engine.writers.shard import (
    OpenShard,
    ShardsAlone,
    StagedShard,
    exactly,
    is_encoded,
    max_stored_bytes,
)


class TfRecordFormat(ShardsAlone):
    """``data/train.tfrecord-00000-of-00010`` with a feature per field: ``image``, ``index`` and, if there are any,
    ``label``.

    A field that the codec encodes is one encoded file. Other arrays are floats, or C-order bytes if they are integers,
    and both have the feature ``shape`` (``NAME/shape`` if the generator makes several fields). Integers are int64, so
    an unsigned one of 2**63 and above is stored minus 2**64.
    """

    name = "tfrecord"
    identity = "tfrecord/1"
    holds_arrays = False

    def check_available(self) -> None:
        """Raise WriterUnavailable if nothing here computes CRC-32C."""
        crc32c(b"")

    def check(self, layout: Layout) -> None:
        """Raise RequestError for 64-bit floats, which the format would round."""
        for field in layout.schema:
            if field.dtype == "float64":
                raise RequestError(
                    f"format tfrecord holds 32-bit floats, and field {field.name} is float64; use --format parquet or "
                    "npy"
                )

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the name of the shard's only file."""
        width = max(5, len(str(layout.shards)))
        return [f"data/train.tfrecord-{number:0{width}d}-of-{layout.shards:0{width}d}"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> TfRecordWriter:
        """Start a shard."""
        return TfRecordWriter(scratch, self.file_names(layout, shard.number), layout, shard, codec)

    def open_shard(self, files: Sequence[ShardFile], layout: Layout, shard: Shard, codec: Codec) -> TfRecordReader:
        """Open a shard."""
        return TfRecordReader(files, layout, shard, codec)

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return nothing: Hugging Face has no reader for TFRecord."""
        return {}

    def example(self, layout: Layout) -> str:
        """Return code that iterates over all shards, with the package tfrecord; TensorFlow reads them as well."""
        shown = ", ".join(f'len(sample["{field.name}"])' for field in layout.schema.outputs[:8])
        label = "" if layout.schema.class_names is None else ', sample["label"][0]'
        lines = [
            "from glob import glob",
            "",
            "from tfrecord.reader import tfrecord_loader  # or tf.data.TFRecordDataset",
            "",
            'for path in sorted(glob("PATH/data/train.tfrecord-*")):',
            "    for sample in tfrecord_loader(path, None):",
            f'        print(sample["index"][0], {shown}{label})',
        ]
        return "\n".join(lines)


class TfRecordWriter(StagedShard):
    """Writes a batch's records in one go."""

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard, codec: Codec) -> None:
        super().__init__(scratch, names, layout, shard)
        self._codec = codec
        schema = layout.schema
        # Equal in all samples; readers accept the features in any order.
        self._same = b"".join(
            example.entry(
                "shape" if field is schema.sole_output else f"{field.name}/shape", INTEGERS, example.packed(field.sizes)
            )
            for field in schema.outputs
            if field.form in ("media", "array") and not is_encoded(field, codec)
        )
        # Seed and index lie between the other scalars and the outputs, latents are the last feature.
        order = ("index", "seed", "label", "latents")
        self._fields = sorted(schema, key=lambda field: order.index(field.name) if field.name in order else -1)

    def _append(self, batch: Batch) -> None:
        compiled = core()
        features: list[tuple[bytes | None, int, RecordColumn]] = []
        for field in self._fields:
            features.append(self._feature(field, batch.columns[field.name]))
            if field.name == "index" and self._same:
                features.append((None, BYTES, ("same", self._same)))
        records = _records if compiled is None else compiled.tfrecord_records
        self._files[0].write(records(len(batch), features))

    def _feature(self, field: Field, column: Column) -> tuple[bytes, int, RecordColumn]:
        """Return the name of a field's feature, its kind of list, and its values."""
        name = field.name.encode()
        if isinstance(column, Ragged):
            return name, BYTES, ("ragged", column.values, column.offsets)
        if is_encoded(field, self._codec):
            files = self._codec.encode(column)
            return name, BYTES, ("ragged", files.values, files.offsets)
        if field.form == "scalar" and column.dtype.kind != "f":
            words = column.view(np.int64) if column.dtype == np.uint64 else column.astype(np.int64)
            return name, INTEGERS, ("varint", np.ascontiguousarray(words))
        little = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
        return name, FLOATS if column.dtype.kind == "f" else BYTES, ("rows", little, field.value_bytes)


def _records(samples: int, features: Sequence[tuple[bytes | None, int, RecordColumn]]) -> bytes:
    """Return a batch's records: the reference of :meth:`~gen_engine.engine.native.contract.Core.tfrecord_records`."""
    columns = [
        values if name is None else [example.entry(name.decode(), kind, value) for value in values]
        for name, kind, values in ((name, kind, _values(samples, column)) for name, kind, column in features)
    ]
    pieces: list[bytes] = []
    for entries in zip(*columns, strict=True):
        data = b"".join(entries)
        record = example.field(1, len(data)) + data
        pieces += (_length(len(record)), record, _masked(crc32c(record)))
    return b"".join(pieces)


def _values(samples: int, column: RecordColumn) -> list[bytes]:
    """Return the bytes of each value of a column."""
    kind, data, *rest = column
    if kind == "ragged":
        return Ragged(data, *rest).pieces()
    if kind == "varint":
        return [example.varint(word % (1 << 64)) for word in data.tolist()]
    if kind == "same":
        return [data] * samples
    packed, (width,) = data.tobytes(), rest
    return [packed[at : at + width] for at in range(0, samples * width, width)]


@lru_cache(maxsize=1 << 12)
def _length(size: int) -> bytes:
    """Return what precedes a record of ``size`` bytes."""
    length = struct.pack("<Q", size)
    return length + _masked(crc32c(length))


def _masked(crc: int) -> bytes:
    """Return a checksum as TFRecord stores it: masked, since the CRC of data that contains CRCs is degenerate."""
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of bytes.

    Raises:
        WriterUnavailable: there is neither the compiled core nor google-crc32c.
    """
    compiled = core()
    if compiled is not None:
        return compiled.crc32c(data)
    try:
        import google_crc32c
    except ImportError as error:
        raise WriterUnavailable(
            f"format tfrecord needs the compiled core, which this installation lacks, or google-crc32c ({error}): pip "
            "install 'gen-engine[tfrecord]', or use --format webdataset"
        ) from error
    value: int = google_crc32c.value(data)
    return value


class TfRecordReader(OpenShard):
    """Finds the records by their lengths, from the start up to the last one that was requested; keeps their offsets."""

    what = "a TFRecord shard"

    def _begin(self) -> None:
        crc32c(b"")
        self._limit = sum(256 + 2 * max_stored_bytes(field) for field in self._schema)
        self._places = [0]

    def _record(self, row: int) -> Record:
        while len(self._places) <= row:
            self._places.append(self._places[-1] + 16 + self._length_at(self._places[-1]))
        size = self._length_at(self._places[row])
        data = exactly(self._files[0], size)
        if self._files[0].read(4) != _masked(crc32c(data)):
            raise ValueError(f"the record at byte {self._places[row]:,} is damaged")
        features = example.features(data)
        values = {field.name: self._value(field, features[field.name]) for field in self._schema}
        return Record(values["index"], values)

    def _length_at(self, at: int) -> int:
        """Return the size of the record at an offset; leaves the file at its data."""
        self._files[0].seek(at)
        head = self._files[0].read(12)
        if len(head) < 12:
            raise ValueError(f"no record at byte {at:,}")
        size: int = struct.unpack("<Q", head[:8])[0]
        if size > self._limit or head != _length(size):
            raise ValueError(f"the length of the record at byte {at:,} is damaged")
        return size

    def _value(self, field: Field, feature: Any) -> Any:
        if is_encoded(field, self._codec):
            return feature
        if field.form == "text":
            return feature.decode()
        if field.form == "scalar":
            (value,) = feature
            if field.numpy_dtype.kind == "f":
                return float(value)
            return bool(value) if field.dtype == "bool" else _signed(value, field)
        flat = np.frombuffer(feature, field.numpy_dtype) if isinstance(feature, bytes) else feature
        if flat.size != math.prod(field.sizes) or flat.dtype != field.numpy_dtype:
            raise ValueError(f"{flat.size} values of {flat.dtype} for a field of shape {list(field.sizes)}")
        return flat.reshape(field.sizes)


def _signed(value: int, field: Field) -> int:
    """Return a 64-bit word as a value of the field's dtype."""
    return value if field.numpy_dtype.kind == "u" or value < 1 << 63 else value - (1 << 64)
