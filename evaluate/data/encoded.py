"""Images that other files hold: WebDataset tars, and Parquet as Hugging Face lays it out.

Shape suffix: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gen_engine.engine.errors import DatasetError
from gen_engine.engine.sample.schema import Column, Field, Schema
from gen_engine.evaluate.data.options import DataOptions
from gen_engine.evaluate.data.rows import Rows, chosen_rows, drawn_note, image_split
from gen_engine.evaluate.split import Role, Split
from gen_engine.train.errors import DataError

if TYPE_CHECKING:
    from gen_engine.train.data.image_file import ImageBytes

IMAGE_SUFFIXES: Final = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm")
LABELS: Final = ("label", "labels", "class")
"""Columns of Parquet that name a row's class, in order of preference."""

_LARGEST_CLASS: Final = 1 << 12
"""Bytes of a .cls."""

_SPLITS: Final = {"train": ("train",), "test": ("test", "validation", "valid", "val"), "synthetic": ("train",)}
"""Which of a dataset's own splits a side reads, by the beginnings of its files' names."""


@contextmanager
def _dataset_errors() -> Iterator[None]:
    """Turn what the readers of training raise about a file that holds many images into DatasetError."""
    try:
        yield
    except DataError as error:
        raise DatasetError(str(error)) from error


def choose_files(source: str, suffix: str, role: Role) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files of a source, those of one split if their names state splits, and a note about it.

    Raises:
        DatasetError: one of them does not exist.
    """
    from gen_engine.train.data import sources

    with _dataset_errors():
        return sources.choose_files(source, suffix, _SPLITS[role])


def read_tars(source: str, role: Role, options: DataOptions) -> Split:
    """Return the images and class ids of WebDataset tars: members KEY.png and KEY.cls, or of other image formats.

    Raises:
        DatasetError: a file is no tar, is damaged, or holds no image; or only some samples have a class.
        DataError: the images cannot be read.
    """
    from gen_engine.train.data.tars import samples

    files, notes = choose_files(source, ".tar", role)
    images: list[ImageBytes] = []
    classes: list[bytes | None] = []
    others: set[str] = set()
    left = options.memory
    passed_over: dict[str, int] = {}
    with _dataset_errors():
        for sample in (sample for path in files for sample in samples(path, passed_over)):
            image = next((one for one in IMAGE_SUFFIXES if one in sample), None)
            others |= set(sample) - {image, "cls"}
            if image is None:
                continue
            left -= sample[image].size
            if left < 0:
                raise DatasetError(f"{source} has more than {options.memory:,} bytes of images: raise --memory")
            images.append(_image_bytes(str(sample[image]), sample[image].read()))
            classes.append(sample["cls"].read(_LARGEST_CLASS) if "cls" in sample else None)
    notes = (*notes, *(f"{count} {reason}" for reason, count in passed_over.items()))
    if others:
        notes = (*notes, f"members that were not read: {', '.join(sorted(others)[:10])}")
    return _decoded(source, role, options, images, _class_ids(source, classes), notes)


def _class_ids(source: str, classes: Sequence[bytes | None]) -> tuple[list[int], tuple[str, ...]] | None:
    """Return a class id per sample and the names of the classes, or None if no sample has one."""
    present = sum(one is not None for one in classes)
    if not present:
        return None
    if present < len(classes):
        raise DatasetError(
            f"{source}: {present:,} of {len(classes):,} samples have a .cls; write one for each, or none"
        )
    try:
        ids = [int(one or b"") for one in classes]
    except ValueError as error:
        raise DatasetError(f"{source}: a .cls is no class id ({error}): it is a whole number in ASCII") from error
    if min(ids) < 0 or max(ids) >= 100_000:
        raise DatasetError(f"{source}: class ids from {min(ids)} to {max(ids)}: number the classes from 0")
    return ids, tuple(str(one) for one in range(max(ids) + 1))


def read_parquet(source: str, role: Role, options: DataOptions) -> Rows:
    """Return the rows of Parquet files: images if a column holds encoded ones, else a table.

    Raises:
        DatasetError: a file is no Parquet, or its columns differ from the others'.
        DataError: the images cannot be read.
    """
    from gen_engine.evaluate.data import tables
    from gen_engine.train.data.parquet_columns import features

    files, notes = choose_files(source, ".parquet", role)
    schema = tables.parquet_schema(files)
    column = _image_column(schema)
    if column is None:
        return tables.read_files(source, role, options, files, notes)
    label = options.target or next((one for one in LABELS if one in schema.names), None)
    table = tables.load_parquet(source, files, [column] + ([label] if label else []), options)
    encoded = table.column(column)
    if _is_struct(encoded.type):
        import pyarrow.compute as pc

        encoded = pc.struct_field(encoded, "bytes")
    images = [
        _image_bytes(f"{source}: {column} of row {row}", data or b"") for row, data in enumerate(encoded.to_pylist())
    ]
    classes = None if label is None else _parquet_classes(source, table.column(label), label, features(schema))
    return _decoded(source, role, options, images, classes, notes)


def _parquet_classes(
    source: str, column: Any, label: str, features: dict[str, Any]
) -> tuple[list[int], tuple[str, ...]]:
    import pyarrow as pa

    if column.null_count:
        raise DatasetError(f"{source}: {column.null_count:,} rows have no {label}: fill them or leave the rows out")
    names = features.get(label, {}).get("names")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.to_pylist()
    if isinstance(names, list) and pa.types.is_integer(column.type):
        if values and not 0 <= min(values) <= max(values) < len(names):
            raise DatasetError(f"{source}: {label} from {min(values)} to {max(values)}, with {len(names)} class names")
        return values, tuple(str(one) for one in names)
    if pa.types.is_integer(column.type):
        return _class_ids(source, [str(one).encode() for one in values]) or ([], ())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        order = {name: place for place, name in enumerate(sorted(set(values)))}
        return [order[one] for one in values], tuple(order)
    raise DatasetError(f"{source}: {label} is {column.type}; classes are whole numbers or text")


def _image_column(schema: Any) -> str | None:
    """Return the column with encoded images: as its features state, or bytes beside a path; else bytes named image."""
    import pyarrow as pa

    from gen_engine.train.data.parquet_columns import features

    described = features(schema)
    for field in schema:
        if described.get(field.name, {}).get("_type") == "Image":
            return str(field.name)
    for field in schema:
        if _is_struct(field.type) and {one.name for one in field.type} >= {"bytes"}:
            return str(field.name)
        if field.name in ("image", "img", "png", "jpg") and pa.types.is_binary(field.type):
            return str(field.name)
    return None


def _is_struct(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind))


def _image_bytes(name: str, data: bytes) -> ImageBytes:
    from gen_engine.train.data.image_file import ImageBytes

    return ImageBytes(name, data)


def _decoded(
    source: str,
    role: Role,
    options: DataOptions,
    images: list[ImageBytes],
    classes: tuple[list[int], tuple[str, ...]] | None,
    notes: tuple[str, ...],
) -> Split:
    from gen_engine.train.data.images import read_images
    from gen_engine.train.data.items import Files

    if not images:
        raise DatasetError(f"{source} holds no images of {', '.join(IMAGE_SUFFIXES)}")
    count = len(images)
    rows = chosen_rows(count, 1, role, options)
    images = [images[row] for row in rows.tolist()]
    found = read_images(Files(images), options.images(), source)
    fields = [Field(name="image", kind="image", dtype="uint8", shape=found.images_NSSC.shape[1:])]
    columns: dict[str, Column] = {"image": found.images_NSSC}
    if classes is not None:
        ids, names = classes
        fields.append(Field(name="label", kind="label", dtype="int64", categories=names))
        columns["label"] = np.array(ids, np.int64)[rows][found.kept]
    notes = (*notes, *drawn_note(count, len(rows)), *found.bad_notes, *found.notes)
    return image_split(role, source, Schema(tuple(fields)), columns, notes)
