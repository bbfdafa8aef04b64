"""Parquet shards as Hugging Face ``datasets`` reads them, through pyarrow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.sample.schema import Batch, Column, Field, Layout, Ragged, Record, join_columns
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.contract import ShardFile
from gen_engine.engine.writers.parquet_columns import arrow_schema, arrow_values, leaf, same_columns
from gen_engine.engine.writers.parquet_scalars import pyarrow, read_scalars
from gen_engine.engine.writers.shard import (
    OpenShard,
    ShardsAlone,
    StagedShard,
    check_columns,
    is_encoded,
    max_stored_bytes,
    numbered,
)

GROUP_ROWS = 1_000
GROUP_BYTES = 32 * 2**20
"""A row group has this many rows or, for large samples, as many as fit into this many uncompressed bytes."""

TABLE_GROUP_ROWS = 1 << 17
"""Rows of a table are small: of a thousand, the head of each column would cost more than its values."""


class ParquetFormat(ShardsAlone):
    """``data/train-00000-of-00010.parquet`` with a column per field: ``image``, ``label`` (if any), ``index``.

    Encoded images are structs of bytes and path, arrays are nested lists, latents are lists of one length; the schema's
    metadata states the features of ``datasets``. A table has a column per title, of the types of
    :mod:`gen_engine.engine.writers.parquet_scalars`, and its rows are in the order of their index, which it omits.
    """

    name = "parquet"
    holds_arrays = False

    @property
    def identity(self) -> str:
        """Name, version and the version of pyarrow, which every file contains."""
        return f"parquet/1/pyarrow-{pyarrow().__version__}"

    def check_available(self) -> None:
        """Raise WriterUnavailable if pyarrow is missing."""
        pyarrow()

    def check(self, layout: Layout) -> None:
        """Raise RequestError if two columns would have one name."""
        check_columns(layout.schema, "npy")

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the name of the shard's only file."""
        return [f"{numbered(layout, number)}.parquet"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> ParquetWriter:
        """Start a shard."""
        return ParquetWriter(scratch, self.file_names(layout, shard.number), layout, shard, codec)

    def open_shard(self, files: Sequence[ShardFile], layout: Layout, shard: Shard, codec: Codec) -> ParquetReader:
        """Open a shard."""
        return ParquetReader(files, layout, shard, codec)

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return the pattern by which Hugging Face finds the shards."""
        return {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}]}

    def example(self, layout: Layout) -> str:
        """Return code that loads the dataset."""
        lines = [
            "from datasets import load_dataset",
            "",
            'dataset = load_dataset("PATH", split="train")',
            "print(dataset.features, dataset[0])",
        ]
        return "\n".join(lines)


class ParquetWriter(StagedShard):
    """Gathers the samples of a row group and writes it, so that bytes do not depend on the batches."""

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard, codec: Codec) -> None:
        self._codec = codec
        self._arrow = arrow_schema(layout.schema, codec)
        sample_bytes = sum(field.value_bytes for field in layout.schema.outputs)
        most = TABLE_GROUP_ROWS if layout.schema.is_table else GROUP_ROWS
        self._group_rows = max(1, min(most, GROUP_BYTES // sample_bytes))
        self._columns = layout.schema.columns
        self._held: dict[str, list[Column]] = {field.name: [] for field in self._columns}
        """Encoded files; texts and arrays as they arrived, copied."""
        self._rows = 0
        self._writer: Any = None
        super().__init__(scratch, names, layout, shard)

    def _begin(self) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(self._files[0], self._arrow, **_options(self._columns, self._codec))

    def _append(self, batch: Batch) -> None:
        for field in self._columns:
            column, held = batch.columns[field.name], self._held[field.name]
            if not isinstance(column, Ragged) and is_encoded(field, self._codec):
                held.append(self._codec.encode(column))
            else:
                held.append(column.copy())
        self._rows += len(batch)
        start = batch.stop - self._rows
        while self._rows >= self._group_rows:
            self._write_group(start, self._group_rows)
            start += self._group_rows

    def _finish(self) -> None:
        if self._rows:
            self._write_group(self._shard.stop - self._rows, self._rows)
        self._writer.close()

    def abort(self) -> None:
        """Close and remove the temporary file. Never raises."""
        # pyarrow would write the footer when the writer is garbage-collected, to a file that is closed by then.
        with contextlib.suppress(Exception):
            self._writer.close()
        super().abort()

    def _write_group(self, start: int, rows: int) -> None:
        columns = []
        for place, field in enumerate(self._columns):
            whole = join_columns(self._held[field.name])
            self._held[field.name] = [whole[rows:]]
            columns.append(arrow_values(field, whole[:rows], self._codec, start, self._arrow.field(place).type))
        self._rows -= rows
        table = pyarrow().Table.from_arrays(columns, schema=self._arrow)
        self._writer.write_table(table, row_group_size=rows)


class ParquetReader(OpenShard):
    """Reads a row group at a time, and keeps the last one."""

    what = "a Parquet shard"

    def _begin(self) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(self._files[0])
        if not same_columns(self._file.schema_arrow, arrow_schema(self._schema, self._codec)):
            raise ValueError("its columns are not those of the schema")
        groups = [self._file.metadata.row_group(number) for number in range(self._file.num_row_groups)]
        self._stops = np.cumsum([group.num_rows for group in groups], dtype=np.int64)
        count = self._shard.stop - self._shard.start
        if self._stops[-1:].tolist() != [count] or min(group.num_rows for group in groups) < 1:
            raise ValueError(f"its row groups hold {self._stops[-1:].tolist()} samples, {count:,} are due")
        limit = sum(map(max_stored_bytes, self._schema))
        for group in groups:
            if group.total_byte_size > limit * group.num_rows + (1 << 20):
                raise ValueError(f"a row group of {group.total_byte_size:,} bytes, which its samples do not have")
        self._group, self._columns = -1, dict[str, list[Any] | NDArray[Any]]()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Add those of pyarrow, which share no base with Python's."""
        with super()._errors():
            try:
                yield
            except pyarrow().ArrowException as error:
                raise ValueError(str(error)) from error

    def _record(self, row: int) -> Record:
        group = int(np.searchsorted(self._stops, row, side="right"))
        if group != self._group:
            table = self._file.read_row_group(group)
            stored = enumerate(self._schema.columns)
            self._columns = {field.name: self._values(field, table.column(place)) for place, field in stored}
            self._group = group
        at = row - (int(self._stops[group - 1]) if group else 0)
        values: dict[str, Any] = {"index": self._shard.start + row} if "index" not in self._columns else {}
        for field in self._schema.columns:
            value = self._columns[field.name][at]
            values[field.name] = value.item() if field.form == "scalar" else value
        return Record(values["index"], values)

    def _values(self, field: Field, column: Any) -> list[Any] | NDArray[Any]:
        """Return a row group's values of a field."""
        if column.null_count and not field.nullable:
            raise ValueError(f"column {field.name} has nulls")
        whole = column.combine_chunks()
        whole = getattr(whole, "storage", whole)  # of an extension type, where `datasets` has registered its own
        if is_encoded(field, self._codec):
            files: list[bytes] = whole.field("bytes").to_pylist()
            return files
        if field.form == "text":
            texts: list[str] = whole.to_pylist()
            return texts
        if field.form == "scalar":
            return read_scalars(field, whole)
        flat = whole
        for _ in field.sizes:
            flat = flat.flatten()
        array: NDArray[Any] = np.asarray(flat.to_numpy(zero_copy_only=False), field.numpy_dtype)
        return array.reshape(len(whole), *field.sizes)


def _options(fields: Sequence[Field], codec: Codec) -> dict[str, Any]:
    """Return how the columns are compressed.

    Encoded images do not compress further, and statistics over them would copy whole images into the footer. Bytes of
    an array take four each without a dictionary, since Parquet has no smaller integer; for floats, which rarely repeat,
    a dictionary would only grow until it is abandoned. The least and greatest name of a category help no query.
    """
    compression: dict[str, str] = {}
    dictionary, statistics = [], []
    for field in fields:
        if is_encoded(field, codec):
            compression |= {f"{field.column}.bytes": "NONE", f"{field.column}.path": "SNAPPY"}
        elif field.form == "scalar" or field.form == "text":
            compression[field.column] = "SNAPPY"
            if field.kind not in ("index", "float", "boolean", "datetime"):
                dictionary.append(field.column)
            if field.kind != "seed" and field.form == "scalar" and not (field.is_column and field.categories):
                statistics.append(field.column)
        elif field.behaviour.generated:
            compression[leaf(field)] = "SNAPPY"
            if field.numpy_dtype.kind == "u":
                dictionary.append(leaf(field))
    return {"compression": compression, "use_dictionary": dictionary, "write_statistics": statistics}
