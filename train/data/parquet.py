"""Images and labels from Parquet, as Hugging Face, gen-engine and others lay it out.

Only the columns of the image and of the label are read: Parquet stores each by itself. Images are

- encoded: structs with a field `bytes`, of which nothing else is read, or plain binary;
- numbers: nested lists, or flat ones with a shape, which a tensor type or Hugging Face's description states.

Legend: N images, B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from gen_engine.engine.base.files import IMAGE, open_regular
from gen_engine.train.data.array_image import ImageArray, of_bytes
from gen_engine.train.data.cache import through_cache
from gen_engine.train.data.class_ids import class_ids
from gen_engine.train.data.deidentify import Dropped
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.image_file import ImageBytes
from gen_engine.train.data.images import read_images
from gen_engine.train.data.items import Items, SourceDamaged
from gen_engine.train.data.names import file_name, shown
from gen_engine.train.data.parquet_columns import Columns, arrow, choose_columns, is_binary, is_list, is_struct
from gen_engine.train.data.sources import choose_files
from gen_engine.train.data.store import OpenStore
from gen_engine.train.data.webdataset import check_not_dropped
from gen_engine.train.errors import DataError
from gen_engine.train.options import ReadOptions

BATCH: Final = 64
"""Rows that are in memory at a time."""

_BUFFER: Final = 1 << 20
"""Bytes of a column that are read at once; without it, pyarrow reads all of a row group's column."""


def read_parquet(source: str, options: ReadOptions | None = None) -> ImageData:
    """The images of .parquet files, and their labels if a column holds some.

    Args:
        source: a file, a folder of them, or a name with ranges such as x-{000..099}.parquet.
        options: size, range and limits, and which columns hold what.

    Raises:
        DataError: a file is damaged, has no column of images or other columns than the first; also as of a folder.
        ConfigError: a column that is to be read is to be dropped.
        BackendUnavailable: pyarrow is missing.
    """
    options = options or ReadOptions()
    files, notes = choose_files(source, ".parquet")
    dropped = Dropped(options.drop_columns)
    check_not_dropped(dropped, options)

    def read(open_store: OpenStore) -> ImageData:
        columns = choose_columns(source, read_schema(files[0]), options, dropped)
        rows = ParquetRows(files, columns)
        images = read_images(rows, options, source, open_store)
        labels, names = None, None
        if columns.label is not None:
            what = f"column {columns.label!r}"
            values = [value for path in files for value in _labels(path, columns.label)]
            labels, names = class_ids(values, images.kept, columns.class_names, shown(source), what)
        of_label = "none with a label" if columns.label is None else f"labels in column {columns.label!r}"
        counted = (
            f"{len(rows)} rows of {len(files)} Parquet files, {len(images.kept)} images read from column "
            f"{columns.image!r}, {of_label}"
        )
        all_notes = (counted, *notes, *dropped.notes(columns.others), *images.bad_notes, *images.notes)
        return make_image_data(images.images_NSSC, labels, names, file_name(Path(source)), all_notes)

    return through_cache(read, files, options)


def read_schema(path: Path) -> Any:
    """The Arrow schema of a file; DataError when it is no Parquet."""
    from contextlib import closing

    with _Reading(path), open_regular(path) as file, closing(_open(file)) as opened:
        return opened.schema_arrow


class ParquetRows(Items):
    """The images of Parquet files, a batch of rows in memory at a time."""

    noun = "rows"

    def __init__(self, files: Sequence[Path], columns: Columns) -> None:
        self._files, self._columns = files, columns
        self._starts = [0]
        for path in files:
            self._starts.append(self._starts[-1] + _count_rows(path, columns))
        self._batches: Iterator[tuple[int, Any]] = iter(())
        self._first = 0
        self._batch: Any = None

    def __len__(self) -> int:
        return self._starts[-1]

    def name(self, at: int) -> str:
        """The file and the row."""
        number = next(place for place, end in enumerate(self._starts[1:]) if at < end)
        return f"{shown(self._files[number])}: row {at - self._starts[number]}"

    def load(self, at: int) -> ImageBytes | ImageArray:
        """The row's image."""
        if self._batch is None or at < self._first:
            self._batches = self._read()
            self._batch = None
        while self._batch is None or at >= self._first + len(self._batch):
            self._first, self._batch = next(self._batches)
        value = self._batch[at - self._first : at - self._first + 1]
        if value.null_count:
            only = ": it has no bytes, perhaps only the path of a file; embed the images"
            raise DataError(f"its image is missing{only if self._columns.struct else ''}")
        if self._columns.encoded:
            data = value[0].as_py()
            if len(data) > IMAGE:
                raise DataError(f"{len(data):,} bytes, and at most {IMAGE:,} are read")
            return of_bytes("", data)
        return ImageArray("", _numbers(value, self._columns.shape))

    def _read(self) -> Iterator[tuple[int, Any]]:
        """Yield the column in batches, each with the place of its first row."""
        for path, start, end in zip(self._files, self._starts, self._starts[1:], strict=False):
            at = start
            leaf = f"{self._columns.image}.bytes" if self._columns.struct else self._columns.image
            for batch in _batches(path, leaf, BATCH):
                column = batch.column(0)
                if self._columns.struct:
                    column = column.field("bytes")
                yield at, column
                at += len(column)
            if at != end:
                raise SourceDamaged(f"{shown(path)} has {at - start:,} rows and states {end - start:,}: fetch it again")


def _numbers(value: Any, shape: tuple[int, ...] | None) -> Any:
    """The numbers of one row as an array; DataError when its lists differ in length, or hold nothing in places."""
    value = getattr(value, "storage", value)
    found = []
    while is_list(value.type):
        inner = value.flatten()
        if value.null_count or len(inner) % len(value):
            raise DataError("its lists have different lengths, or are missing")
        found.append(len(inner) // len(value))
        lengths = set(arrow().compute.list_value_length(value).to_pylist())
        if lengths != {found[-1]} or not found[-1]:
            raise DataError("its lists have different lengths, or are empty")
        value = inner
    if value.null_count:
        raise DataError("some of its numbers are missing")
    numbers = value.to_numpy(zero_copy_only=False)
    if shape is not None:
        if math.prod(shape) != len(numbers):
            raise DataError(f"it has {len(numbers):,} numbers, and its shape is {list(shape)}")
        return numbers.reshape(shape)
    if len(found) == 1:
        side = math.isqrt(len(numbers))
        if side * side != len(numbers):
            raise DataError(f"it is a flat list of {len(numbers):,} numbers, whose shape is not known: nest the lists")
        return numbers.reshape(side, side)
    return numbers.reshape(found)


def _labels(path: Path, label: str) -> list[Any]:
    """The labels of a file: integers or text, None where missing."""
    found: list[Any] = []
    for batch in _batches(path, label, 8192):
        column = batch.column(0)
        if hasattr(column, "dictionary"):
            column = column.dictionary_decode()
        found += column.to_pylist()
    return found


def _batches(path: Path, column: str, rows: int) -> Iterator[Any]:
    with _Reading(path), open_regular(path) as file:
        opened = _open(file)
        try:
            yield from opened.iter_batches(batch_size=rows, columns=[column], use_threads=False)
        finally:
            opened.close()


def _count_rows(path: Path, columns: Columns) -> int:
    with _Reading(path), open_regular(path) as file:
        opened = _open(file)
        try:
            schema = opened.schema_arrow
            for name in (columns.image, columns.label):
                if name is not None and name not in schema.names:
                    raise DataError(
                        f"{shown(path)} has no column {name!r}, which the first file has: it has "
                        f"{', '.join(schema.names)}"
                    )
            kind = schema.field(columns.image).type
            if (is_struct(kind), is_struct(kind) or is_binary(kind)) != (columns.struct, columns.encoded):
                raise DataError(f"{shown(path)}: column {columns.image!r} is {kind}, unlike in the first file")
            return int(opened.metadata.num_rows)
        finally:
            opened.close()


def _open(file: Any) -> Any:
    arrow()
    import pyarrow.parquet as pq

    return pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER)


class _Reading:
    """Whatever pyarrow raises on a damaged file becomes DataError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, arrow().ArrowException | OSError | ValueError | KeyError | TypeError | MemoryError):
            return
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceDamaged(
            f"{shown(self._path)} cannot be read as Parquet ({reason}): fetch or write it again"
        ) from error
