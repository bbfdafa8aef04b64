"""Images and labels from Parquet, as Hugging Face, gen-engine and others lay it out.

Only the columns of the image and of the label are read: Parquet stores each by itself. Images are

- encoded: structs with a field `bytes`, of which nothing else is read, or plain binary;
- numbers: nested lists, or flat ones with a shape, which a tensor type or Hugging Face's description states.

Legend: N images, B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gen_engine.engine.base.files import IMAGE, open_regular
from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.train.data.array_image import ImageArray, of_bytes
from gen_engine.train.data.cache import through_cache
from gen_engine.train.data.class_ids import class_ids
from gen_engine.train.data.deidentify import Dropped
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.image_file import ImageBytes
from gen_engine.train.data.images import read_images
from gen_engine.train.data.items import Items, SourceDamaged
from gen_engine.train.data.names import file_name, shown
from gen_engine.train.data.sources import choose_files
from gen_engine.train.data.store import OpenStore
from gen_engine.train.data.webdataset import LABELS, check_not_dropped
from gen_engine.train.errors import DataError
from gen_engine.train.options import ReadOptions

BATCH: Final = 64
"""Rows that are in memory at a time."""

_BUFFER: Final = 1 << 20
"""Bytes of a column that are read at once; without it, pyarrow reads all of a row group's column."""

IMAGE_NAMES: Final = ("image", "img", "images", "png", "jpg", "jpeg", "picture", "pixels", "pixel_values", "x")
"""Columns that are images although their type does not say so, such as lists of numbers."""


def arrow() -> Any:
    """The module pyarrow; BackendUnavailable saying what to install when it is missing."""
    try:
        import pyarrow
    except ImportError as error:
        raise BackendUnavailable(f"Parquet needs pyarrow ({error}): pip install 'gen-engine[parquet]'") from error
    return pyarrow


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What is read of the files."""

    image: str
    label: str | None
    shape: tuple[int, ...] | None
    """Of the numbers of one image, where the schema states it."""

    encoded: bool
    """Whether an image is a file, not numbers."""

    struct: bool
    """Whether that file is in the field `bytes` of a struct."""

    class_names: tuple[str, ...] | None
    """Where the schema states them."""

    others: tuple[str, ...]
    """Columns that are not read."""


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


def features(schema: Any) -> dict[str, Any]:
    """Hugging Face's description of the columns; empty if there is none that can be read."""
    try:
        found = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (DocumentError, KeyError, TypeError):
        return {}
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def choose_columns(source: str, schema: Any, options: ReadOptions, dropped: Dropped) -> Columns:
    """Which columns hold images and labels; DataError when that is not clear."""
    described = features(schema)
    kept = [field for field in schema if not dropped(field.name)]
    image = _image_column(source, schema, kept, described, options.image_column)
    label = options.label_column or next((one for one in LABELS if any(one == field.name for field in kept)), None)
    if label is not None and label not in schema.names:
        raise DataError(f"{shown(source)} has no column {label!r}: it has {', '.join(schema.names)}")
    names = described.get(label or "", {}).get("names")
    named = isinstance(names, list) and all(isinstance(one, str) for one in names)
    kind = schema.field(image).type
    return Columns(
        image=image,
        label=label,
        shape=_stated_shape(kind, described.get(image, {})),
        encoded=_is_struct(kind) or _is_binary(kind),
        struct=_is_struct(kind),
        class_names=tuple(names) if named and isinstance(names, list) else None,
        others=tuple(one for one in schema.names if one not in (image, label)),
    )


def _image_column(source: str, schema: Any, kept: Sequence[Any], described: dict[str, Any], wanted: str | None) -> str:
    """The column that the user, the features, its type or its name say holds images."""
    if wanted is not None:
        if wanted not in schema.names:
            raise DataError(f"{shown(source)} has no column {wanted!r}: it has {', '.join(schema.names)}")
        if not _may_hold_images(schema.field(wanted).type):
            raise DataError(f"{shown(source)}: column {wanted!r} is {schema.field(wanted).type}, which holds no images")
        return wanted
    able = [field for field in kept if _may_hold_images(field.type)]
    ways = (
        [one for one in able if described.get(one.name, {}).get("_type") in ("Image", "Array2D", "Array3D")],
        [one for one in able if _is_struct(one.type)],
        [one for one in able if one.name.lower() in IMAGE_NAMES],
        [one for one in able if _is_binary(one.type) or _stated_shape(one.type, {}) is not None],
    )
    for found in ways:
        if len(found) == 1:
            return str(found[0].name)
        if found:
            listed = ", ".join(one.name for one in found)
            raise DataError(f"{shown(source)} has several columns of images ({listed}): choose with --image-column")
    listed = ", ".join(f"{one.name} ({one.type})" for one in schema)
    raise DataError(
        f"{shown(source)} has no column that is known to hold images; its columns are {listed or 'none'}. Name it with "
        f"--image-column: bytes of image files, structs with them in 'bytes', or lists of numbers"
    )


def _may_hold_images(kind: Any) -> bool:
    types = arrow().types
    if _is_struct(kind):
        return any(one.name == "bytes" and _is_binary(one.type) for one in kind)
    kind = getattr(kind, "storage_type", kind)
    depth = 0
    while _is_list(kind):
        kind, depth = kind.value_type, depth + 1
    return (
        _is_binary(kind) if not depth else types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    )


def _is_struct(kind: Any) -> bool:
    return bool(arrow().types.is_struct(kind))


def _is_binary(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _is_list(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _stated_shape(kind: Any, feature: dict[str, Any]) -> tuple[int, ...] | None:
    """The shape of one image's numbers by its tensor type, its features or fixed lengths; None if none is stated."""
    stated = feature.get("shape") if feature.get("_type") in ("Array2D", "Array3D") else None
    stated = getattr(kind, "shape", None) if stated is None else stated
    if isinstance(stated, list | tuple) and all(type(one) is int and one > 0 for one in stated):
        return tuple(stated)
    kind, sizes = getattr(kind, "storage_type", kind), list[int]()
    while _is_list(kind):
        sizes.append(getattr(kind, "list_size", 0))
        kind = kind.value_type
    return tuple(sizes) if len(sizes) > 1 and all(sizes) else None


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
    while _is_list(value.type):
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
            if (_is_struct(kind), _is_struct(kind) or _is_binary(kind)) != (columns.struct, columns.encoded):
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
