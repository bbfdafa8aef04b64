"""Reading datasets back: by index, in batches or as stored, whatever the format.

::

    with open_dataset("out/fashion") as dataset:
        dataset.schema                      # the fields, with kinds, dtypes and shapes
        dataset[7]["image"]                 # one sample, decoded
        for batch in dataset.iter_batches(256, columns=["image", "label"]):
            ...

Nothing is read before it is requested, and no more memory is allocated than the schema's shapes need.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from operator import index as as_index
from pathlib import Path
from typing import Any

import numpy as np

from gen_engine.engine.codecs import open_codec
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.commit.manifest import Manifest
from gen_engine.engine.commit.scan import read_manifest
from gen_engine.engine.errors import DatasetError, RequestError, VerifyError
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.sample.schema import Batch, Column, Field, Ragged, Record
from gen_engine.engine.sinks import is_url, open_reader
from gen_engine.engine.sinks.contract import DatasetReader
from gen_engine.engine.sinks.errors import reading_errors
from gen_engine.engine.sinks.names import MANIFEST, PLAN
from gen_engine.engine.writers import open_format
from gen_engine.engine.writers.contract import Format, ShardFile, ShardReader
from gen_engine.engine.writers.shard import is_encoded

OPEN_SHARDS = 8
"""Maximum shards that a dataset keeps open: those that were read last."""


def open_dataset(out: str | Path) -> Dataset:
    """Open a finished dataset that this package wrote, in any format.

    Args:
        out: its directory or URL.

    Raises:
        DatasetError: there is no finished dataset, or its manifest is damaged.
        RequestError: its format or codec belongs to a plugin that is not installed.
        WriterUnavailable: its format or codec needs a library that is not installed.
    """
    reader, manifest = open_manifest(out)
    return Dataset(reader, manifest.plan)


def is_dataset(out: str | Path) -> bool:
    """Return whether a directory holds a dataset of this package, finished or not; True for a URL, unopened."""
    return is_url(out) or any((Path(out) / name).exists() for name in (MANIFEST, PLAN))


def open_manifest(out: str | Path) -> tuple[DatasetReader, Manifest]:
    """Open a finished dataset in a directory or under a URL, and read its manifest.

    Raises:
        DatasetError: it does not exist, cannot be read, or its manifest is damaged.
    """
    reader = open_reader(out)
    if not is_url(out) and not Path(out).is_dir():
        raise DatasetError(f"{out} is not a directory" if Path(out).exists() else f"{out} does not exist")
    with reading_errors(reader.uri):
        manifest = read_manifest(reader)
        if manifest is None:
            unfinished = reader.exists(PLAN)
            hint = "its job is not finished: run its command again" if unfinished else "it is not a gen-engine dataset"
            raise DatasetError(f"{out} holds no {MANIFEST}; {hint}")
    return reader, manifest


class Dataset:
    """A finished dataset, read by index: made by :func:`open_dataset`.

    It can be pickled and used after a fork, for a data loader's workers; only one thread at a time may use it.

    Attributes:
        schema: the fields of every sample.
        plan: everything that the samples depend on.
    """

    def __init__(self, files: DatasetReader, plan: Plan) -> None:
        self.schema = plan.layout.schema
        self.plan = plan
        self._files = files
        self._format: Format = open_format(plan.format)
        self._codec: Codec = open_codec("raw" if plan.codec_id is None else plan.codec_id.partition("/")[0])
        self._open: OrderedDict[int, ShardReader] = OrderedDict()
        self._process = os.getpid()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the fields."""
        return self.schema.names

    @property
    def format(self) -> Format:
        """The format of its shards."""
        return self._format

    @property
    def codec(self) -> Codec:
        """The codec of its encoded fields."""
        return self._codec

    def __len__(self) -> int:
        return self.plan.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return sample ``number`` by field name; a negative one counts from the end.

        Raises:
            IndexError: it does not exist.
            VerifyError: its shard is damaged.
        """
        place = as_index(number)
        if not -len(self) <= place < len(self):
            raise IndexError(f"sample {place}: this dataset has {len(self):,}")
        (record,) = self.records([place % len(self)])
        return {field.name: self._decode(field, record) for field in self.schema}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for record in self.records(range(len(self))):
            yield {field.name: self._decode(field, record) for field in self.schema}

    def __repr__(self) -> str:
        return f"<Dataset {self._files.uri}: {len(self):,} samples of {', '.join(self.columns)}>"

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Omit the state of this process."""
        return self.__dict__ | {"_open": OrderedDict(), "_process": -1}

    def iter_batches(
        self, size: int, *, start: int = 0, stop: int | None = None, columns: Collection[str] | None = None
    ) -> Iterator[Batch]:
        """Yield the samples ``[start, stop)`` in order, ``size`` at a time; the last batch may have fewer.

        Args:
            size: samples per batch.
            start: the first sample.
            stop: the one after the last; None for all.
            columns: the fields to decode; None for all.

        Raises:
            RequestError: the size or the range is invalid, or a column does not exist.
            VerifyError: from the iterator: a shard is damaged.
        """
        stop = len(self) if stop is None else as_index(stop)
        if as_index(size) < 1 or not 0 <= as_index(start) <= stop <= len(self):
            raise RequestError(
                f"batches of {size} from samples {start} to {stop}: the size must be at least 1, and the range lie "
                f"within 0 to {len(self):,}"
            )
        if unknown := sorted(set(columns or ()) - set(self.columns)):
            raise RequestError(f"unknown column {unknown[0]!r}: this dataset has {', '.join(self.columns)}")
        fields = [field for field in self.schema if columns is None or field.name in columns]
        return self._batches(as_index(size), as_index(start), stop, fields)

    def records(self, indices: Sequence[int]) -> Iterator[Record]:
        """Yield samples as they are stored, not decoded, for ascending ``indices``.

        Raises:
            VerifyError: a shard is damaged.
        """
        at = 0
        while at < len(indices):
            number = indices[at] // self.plan.shard_size
            end = at
            while end < len(indices) and indices[end] // self.plan.shard_size == number:
                end += 1
            yield from self._shard(number).read(indices[at:end])
            at = end

    def shard_of(self, index: int) -> int:
        """Return the number of the shard that holds a sample."""
        return index // self.plan.shard_size

    def stored(self, batch: Batch) -> Iterator[Record]:
        """Yield the samples of a batch as this dataset stores them."""
        columns = {field.name: self._stored_values(field, batch[field.name]) for field in self.schema}
        for row in range(len(batch)):
            yield Record(batch.start + row, {name: values[row] for name, values in columns.items()})

    def close(self) -> None:
        """Close the files that are open; reading opens them again."""
        if self._process == os.getpid():
            for shard in self._open.values():
                shard.close()
        self._open = OrderedDict()

    def _batches(self, size: int, start: int, stop: int, fields: Sequence[Field]) -> Iterator[Batch]:
        for first in range(start, stop, size):
            records = list(self.records(range(first, min(first + size, stop))))
            yield Batch(first, {field.name: self._column(field, records) for field in fields})

    def _column(self, field: Field, records: Sequence[Record]) -> Column:
        values = [self._decode(field, record) for record in records]
        if field.form == "text":
            return Ragged.of_text(values)
        try:
            return np.array(values, field.numpy_dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise VerifyError(
                f"{self._files.uri}: field {field.name} of samples {records[0].index} to {records[-1].index} has a "
                f"value that is not {field.dtype} ({error})"
            ) from error

    def _decode(self, field: Field, record: Record) -> Any:
        value = record.values[field.name]
        if not self._is_encoded(field):
            return value
        try:
            return self._codec.decode(value, field)
        except ValueError as error:
            raise VerifyError(
                f"{self._files.uri}: field {field.name} of sample {record.index} cannot be decoded as "
                f"{self._codec.name} ({error})"
            ) from error

    def _stored_values(self, field: Field, column: Column) -> Sequence[Any]:
        if isinstance(column, Ragged):
            return [piece.decode() for piece in column.pieces()]
        if self._is_encoded(field):
            return self._codec.encode(column).pieces()
        values: Sequence[Any] = column.tolist() if field.form == "scalar" else list(column)
        return values

    def _is_encoded(self, field: Field) -> bool:
        return not self._format.holds_arrays and is_encoded(field, self._codec)

    def _shard(self, number: int) -> ShardReader:
        """Return an open shard, from the few that are kept open."""
        if self._process != os.getpid():  # files opened before a fork share their position with the parent
            self._open, self._process = OrderedDict(), os.getpid()
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        names = self._format.file_names(self.plan.layout, number)
        files = [ShardFile(f"{self._files.uri}/{name}", partial(self._files.open, name)) for name in names]
        opened = self._open[number] = self._format.open_shard(
            files, self.plan.layout, self.plan.shard(number), self._codec
        )
        while len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)[1].close()
        return opened


def differing_fields(one: Record, other: Record) -> tuple[str, ...]:
    """Return the names of the fields in which two stored samples differ bitwise."""
    return tuple(name for name in one.values if not _same(one.values[name], other.values.get(name)))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()
    missing = one != one and other != other  # NaN
    return bool(type(one) is type(other) and (one == other or missing))
