"""MDS shards and their index, as MosaicML Streaming reads them.

A shard is, all little-endian: the number of samples n (uint32), n + 1 offsets from the start of the file (uint32), the
columns as JSON, and the samples. A sample is the sizes (uint32) of its columns of variable size, and then all columns
in the order of their names. ``index.json`` lists the shards; a reader opens nothing that is not in it.

Source: ``streaming/base/format/mds`` of mosaicml-streaming 0.13, whose encodings the columns are named after.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import WriterError
from gen_engine.engine.native import core
from gen_engine.engine.native.contract import RecordColumn
from gen_engine.engine.sample.schema import Batch, Field, Layout, Ragged, Record, Schema
from gen_engine.engine.sample.shard import FinishedShard, Shard
from gen_engine.engine.writers.contract import ShardFile
from gen_engine.engine.writers.shard import OpenShard, StagedShard, exactly, is_encoded, max_stored_bytes

OFFSETS_END = 2**32
"""Offsets are uint32."""


class MdsFormat:
    """``data/shard.00000.mds`` and ``data/index.json``, the local directory of a ``StreamingDataset`` being ``data``.

    A column per field: ``png`` or ``jpeg`` where the codec holds the field; ``ndarray``; the type of a number, such as
    ``int64``; ``str``. Booleans are ``uint8``.
    """

    name = "mds"
    identity = "mds/2"
    holds_arrays = False
    lists_sha256 = True
    max_shard_bytes: int | None = OFFSETS_END

    default_shard_bytes: int | None = 2**26
    """The default of the library's own writer: its readers fetch whole shards. A writer holds its shard in memory."""

    def check_available(self) -> None:
        """Do nothing: the format needs no library."""

    def check(self, layout: Layout) -> None:
        """Do nothing: every field can be stored."""

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the name of the shard's only file."""
        width = max(5, len(str(layout.shards - 1)))
        return [f"data/shard.{number:0{width}d}.mds"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> MdsWriter:
        """Start a shard."""
        return MdsWriter(scratch, self.file_names(layout, shard.number), layout, shard, codec)

    def open_shard(self, files: Sequence[ShardFile], layout: Layout, shard: Shard, codec: Codec) -> MdsReader:
        """Open a shard."""
        return MdsReader(files, layout, shard, codec)

    def index_head(self, layout: Layout, codec: Codec) -> Mapping[str, Any] | None:
        """Return the JSON that a shard states about itself."""
        return _head(layout.schema, codec)

    def index(self, head: Mapping[str, Any], shards: Iterable[FinishedShard]) -> Mapping[str, bytes]:
        """Return ``index.json``, with the SHA-256 of every shard."""
        listed = []
        for shard in shards:
            (file,) = shard.files
            name = file["name"].removeprefix("data/")
            data = {"basename": name, "bytes": file["bytes"], "hashes": {"sha256": file["sha256"]}}
            record = {**head, "raw_data": data, "samples": shard.samples, "zip_data": None}
            listed.append(json.dumps(record, sort_keys=True))  # one at a time: records of 100,000 shards take 200 MB
        return {"data/index.json": ('{"shards": [' + ", ".join(listed) + '], "version": 2}').encode()}

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return nothing: Hugging Face has no reader for MDS."""
        return {}

    def example(self, layout: Layout) -> str:
        """Return code that iterates over all shards."""
        shown = ", ".join(f'sample["{field.name}"]' for field in layout.schema.outputs[:8])
        label = "" if layout.schema.class_names is None else ', sample["label"]'
        lines = [
            "from streaming import StreamingDataset",
            "",
            'for sample in StreamingDataset(local="PATH/data", shuffle=False, batch_size=1):',
            f'    print(sample["index"], {shown}{label})',
        ]
        return "\n".join(lines)


class MdsWriter(StagedShard):
    """Holds the samples of the shard until it is finished, since their offsets come first in the file."""

    takes_sha256 = True

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard, codec: Codec) -> None:
        self._codec = codec
        self._head = json.dumps(_head(layout.schema, codec), sort_keys=True).encode()
        self._runs = _runs(_columns(layout.schema, codec))
        self._sizes: list[NDArray[np.int64]] = []
        self._bodies: list[bytes] = []
        self._bytes = 4 * (2 + shard.stop - shard.start) + len(self._head)
        super().__init__(scratch, names, layout, shard)

    def _append(self, batch: Batch) -> None:
        columns = [run if isinstance(run, np.dtype) else self._files_of(run, batch) for run in self._runs]
        compiled = core()
        if compiled is not None:
            sizes = np.empty(len(batch), np.int64)
            body = compiled.mds_records(len(batch), [_record_column(batch, column) for column in columns], sizes)
        else:
            body, sizes = self._body(batch, columns)
        self._bytes += len(body)
        if self._bytes >= OFFSETS_END:
            raise WriterError(
                f"{self._files[0].name}: it has {self._bytes:,} bytes or more, and an MDS shard has less than "
                f"{OFFSETS_END:,}; choose a smaller --shard-size or --shard-bytes, and another --out"
            )
        self._sizes.append(sizes)
        self._bodies.append(body)

    def _body(self, batch: Batch, columns: Sequence[np.dtype[Any] | Ragged]) -> tuple[bytes, NDArray[np.int64]]:
        """Return the samples of a batch, and the size of each."""
        count = len(batch)
        sizes = np.full(count, sum(run.itemsize for run in columns if isinstance(run, np.dtype)))
        pieces: list[Sequence[bytes]] = []
        lengths: list[NDArray[np.uint32]] = []
        for column in columns:
            if isinstance(column, Ragged):
                lengths.append(np.diff(column.offsets).astype("<u4"))
                pieces.append(column.pieces())
            else:
                pieces.append(_cut(_rows(batch, column)))
        if lengths:
            heads = np.stack(lengths, axis=1)
            sizes += 4 * len(lengths) + heads.sum(axis=1, dtype=np.int64)
            pieces.insert(0, _cut(heads))
        return b"".join(chain.from_iterable(zip(*pieces, strict=True))), sizes

    def _files_of(self, field: Field, batch: Batch) -> Ragged:
        column = batch.columns[field.name]
        return column if isinstance(column, Ragged) else self._codec.encode(column)

    def _finish(self) -> None:
        sizes = np.concatenate([np.zeros(1, np.int64), *self._sizes])
        offsets = np.cumsum(sizes) + 4 * (1 + len(sizes)) + len(self._head)
        self._files[0].write(np.array([len(sizes) - 1, *offsets], "<u4").tobytes() + self._head)
        for body in self._bodies:
            self._files[0].write(body)


class MdsReader(OpenShard):
    """Reads the samples by their offsets, and nothing else."""

    what = "an MDS shard"

    def _begin(self) -> None:
        (file,) = self._files
        count = self._shard.stop - self._shard.start
        self._columns = _columns(self._schema, self._codec)
        head = json.dumps(_head(self._schema, self._codec), sort_keys=True).encode()
        if (stated := int(np.frombuffer(exactly(file, 4), "<u4")[0])) != count:
            raise ValueError(f"it states {stated:,} samples, {count:,} are due")
        self._offsets = np.frombuffer(exactly(file, 4 * (count + 1)), "<u4").astype(np.int64)
        if exactly(file, len(head)) != head or self._offsets[0] != file.tell():
            raise ValueError("its columns are not those of the schema")
        self._limit = sum(4 + max_stored_bytes(column.field) for column in self._columns)

    def _record(self, row: int) -> Record:
        (file,) = self._files
        start, stop = self._offsets[row : row + 2].tolist()
        if not 0 <= stop - start <= self._limit:
            raise ValueError(f"a sample of {stop - start:,} bytes at byte {start:,}; at most {self._limit:,} are due")
        file.seek(start)
        rest = exactly(file, stop - start)
        variable = sum(column.dtype is None for column in self._columns)
        lengths = iter(np.frombuffer(rest[: 4 * variable], "<u4").tolist())
        at, values = 4 * variable, {}
        for column in self._columns:
            size = next(lengths) if column.dtype is None else column.dtype.itemsize
            values[column.field.name] = column.value(rest[at : at + size], size)
            at += size
        if at != len(rest):
            raise ValueError(f"a sample at byte {start:,} has {len(rest):,} bytes, {at:,} are due")
        return Record(values["index"], values)


class _Column(NamedTuple):
    field: Field
    encoding: str
    """Its name in the library."""

    dtype: np.dtype[Any] | None
    """Bytes of a value with its shape; None for a column of variable size."""

    def value(self, data: bytes, size: int) -> Any:
        """Decode the bytes of a value."""
        if len(data) != size:
            raise ValueError(f"field {self.field.name} has {len(data):,} bytes, {size:,} are due")
        if self.dtype is None:
            return data.decode() if self.field.form == "text" else data
        array = np.frombuffer(data, self.field.numpy_dtype)
        return array[0].item() if self.field.form == "scalar" else array.reshape(self.field.sizes)


def _columns(schema: Schema, codec: Codec) -> list[_Column]:
    """Return the columns in their stored order: by name."""
    return [_column(field, codec) for field in sorted(schema, key=lambda field: field.name)]


def _column(field: Field, codec: Codec) -> _Column:
    if is_encoded(field, codec):
        return _Column(field, _FILES.get(codec.extension, "bytes"), None)
    if field.form == "text":
        return _Column(field, "str", None)
    if field.form == "scalar":
        return _Column(field, "uint8" if field.dtype == "bool" else field.dtype, field.numpy_dtype)
    shape = ",".join(map(str, field.sizes))
    return _Column(field, f"ndarray:{field.dtype}:{shape}", np.dtype((field.numpy_dtype, field.sizes)))


_FILES = {"png": "png", "jpg": "jpeg"}
"""A codec's extension → the library's encoding of such files."""


def _runs(columns: Sequence[_Column]) -> list[np.dtype[Any] | Field]:
    """Return the pieces of a sample: fields of variable size, and between them those of fixed size as one dtype."""
    runs: list[np.dtype[Any] | Field] = []
    for fixed, group in groupby(columns, key=lambda column: column.dtype is not None):
        if fixed:
            runs.append(np.dtype([(column.field.name, column.dtype) for column in group]))
        else:
            runs += [column.field for column in group]
    return runs


def _rows(batch: Batch, dtype: np.dtype[Any]) -> NDArray[np.void]:
    """Return each sample's columns of fixed size, as stored in the shard."""
    rows = np.empty(len(batch), dtype)
    for name in dtype.names or ():
        rows[name] = batch.columns[name]
    return rows


def _record_column(batch: Batch, column: np.dtype[Any] | Ragged) -> RecordColumn:
    """Return files, or columns of fixed size, as the compiled core takes them."""
    if isinstance(column, Ragged):
        return ("ragged", column.values, column.offsets)
    return ("rows", _rows(batch, column).view(np.uint8), column.itemsize)


def _cut(rows: NDArray[Any]) -> list[bytes]:
    """Return each row as bytes."""
    data = rows.tobytes()
    size = len(data) // len(rows)
    return [data[at : at + size] for at in range(0, len(data), size)]


def _head(schema: Schema, codec: Codec) -> dict[str, Any]:
    """Return the JSON that a shard states about itself, and that the index has for each shard."""
    columns = _columns(schema, codec)
    return {
        "column_encodings": [column.encoding for column in columns],
        "column_names": [column.field.name for column in columns],
        "column_sizes": [None if column.dtype is None else column.dtype.itemsize for column in columns],
        "compression": None,
        "format": "mds",
        "hashes": ["sha256"],
        "size_limit": None,
        "version": 2,
    }
