"""What a source is, and its rows: images as a split, or a table that has no types yet.

The kinds of source, and who reads them:

- a dataset that this package wrote, in a directory or under a URL: :mod:`gen_engine.engine.reader`;
- ``fashion-mnist``, ``fashion-mnist/test``, ``digits``, a folder of images, npz and npy: the readers of training;
- WebDataset tars and Parquet with images: :mod:`gen_engine.evaluate.data.encoded`;
- other Parquet, and CSV: :mod:`gen_engine.evaluate.data.tables`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gen_engine.engine.errors import DatasetError, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.reader import Dataset, is_dataset, open_dataset
from gen_engine.engine.sample.schema import Batch, Column, Field, Ragged, Schema, concatenate
from gen_engine.evaluate.data.options import DataOptions, ImageOptions
from gen_engine.evaluate.data.rows import Rows, chosen_rows, drawn_note, image_split
from gen_engine.evaluate.split import Role, Split

if TYPE_CHECKING:
    from gen_engine.train.data import ImageData

_BATCH = 1024
BOOKKEEPING = ("index", "seed", "latents")


def read_rows(source: str, role: Role, options: DataOptions) -> Rows:
    """Return a side's rows.

    Raises:
        DatasetError: the source does not exist, cannot be read, or is nothing that can be evaluated.
        DataError: images or arrays cannot be read, or what they mean is not clear.
        VerifyError: a shard of a dataset is damaged.
        RequestError: an option does not fit the source.
        BackendUnavailable: a library that reads it is not installed.
    """
    return _reader(source)(source, role, options)


def _reader(source: str) -> Callable[[str, Role, DataOptions], Rows]:
    from gen_engine.evaluate.data import encoded, tables
    from gen_engine.train.data.sources import files_under

    if source in ("fashion-mnist", "fashion-mnist/test", "digits"):
        return _read_named
    if is_dataset(source):
        return _read_dataset
    path, suffix = Path(source), Path(source).suffix.lower()
    if path.is_dir():
        names = {one.suffix.lower() for one in files_under(path)}
        for found, reader in ((".parquet", encoded.read_parquet), (".tar", encoded.read_tars), (".csv", tables.read)):
            if found in names:
                return reader
        return _read_folder
    if not path.exists():
        raise DatasetError(
            f"{source} does not exist: give a dataset, a folder of images, npz, npy, Parquet, CSV or tar"
        )
    readers: dict[str, Callable[[str, Role, DataOptions], Rows]] = {
        ".parquet": encoded.read_parquet,
        ".tar": encoded.read_tars,
        ".csv": tables.read,
        ".npz": _read_arrays,
        ".npy": _read_arrays,
    }
    if suffix not in readers:
        known = ", ".join(readers)
        raise DatasetError(f"{source} ends in {suffix or 'no suffix'}: files of {known} are read, and folders")
    return readers[suffix]


def _read_dataset(source: str, role: Role, options: DataOptions) -> Rows:
    with open_dataset(source) as dataset:
        return read_opened(dataset, source, role, options)


def read_opened(dataset: Dataset, source: str, role: Role, options: DataOptions) -> Rows:
    """Return the rows of a dataset of ours: random ones if there are more than requested or than fit into memory.

    Raises:
        VerifyError: a shard is damaged.
    """
    fields = _compared(dataset.schema)
    rows = chosen_rows(len(dataset), sum(one.value_bytes for one in fields), role, options)
    columns = _columns(dataset, fields, rows)
    return _of_fields(source, role, fields, columns, drawn_note(len(dataset), len(rows)))


def read_generated(bundle: str | Path | Bundle, count: int, options: DataOptions, **sampling: Any) -> Rows:
    """Return samples of a bundle's generator, made in memory.

    Args:
        bundle: the directory NAME.gen, or one that was read.
        count: number of samples.
        options: how much memory they may take.
        sampling: seed, labels and truncation, as :meth:`Generator.columns` takes them.

    Raises:
        BundleError: the bundle is missing or damaged.
        RequestError: the request does not fit the bundle, or needs too much memory.
        BackendUnavailable, BackendError: no runtime runs it.
    """
    from gen_engine.engine.generator import Generator

    with Generator.open(bundle) as generator:
        fields = _compared(generator.schema)
        size = count * sum(one.value_bytes for one in fields)
        if size > options.memory:
            raise RequestError(f"--count {count:,}: the samples take {size:,} bytes, more than --memory allows")
        batch = generator.columns(0, count, **sampling)
        source = f"{count:,} samples of {generator.bundle.name}.gen, generator {generator.bundle.generator_id[:16]}"
    return _of_fields(source, "synthetic", fields, {one.name: batch[one.name] for one in fields}, ())


def _compared(schema: Schema) -> list[Field]:
    return [one for one in schema if one.kind not in BOOKKEEPING]


def _of_fields(
    source: str, role: Role, fields: list[Field], columns: dict[str, Column], notes: tuple[str, ...]
) -> Rows:
    from gen_engine.evaluate.data.tables import of_columns

    if any(one.kind == "image" for one in fields):
        return image_split(role, source, Schema(tuple(fields)), columns, notes)
    return of_columns(source, role, fields, columns, notes)


def _columns(dataset: Dataset, fields: list[Field], rows: Any) -> dict[str, Column]:
    batches = []
    names = [one.name for one in fields]
    if len(rows) == len(dataset):
        batches = list(dataset.iter_batches(_BATCH, columns=names))
    else:
        for start in range(0, len(rows), _BATCH):
            batches += _gather(dataset, names, rows[start : start + _BATCH])
    return dict(concatenate(batches).columns)


def _gather(dataset: Dataset, names: list[str], rows: Any) -> list[Batch]:
    """Return the rows asked for of the runs of samples that hold them, as few reads as are worth it."""
    found = []
    for piece in np.split(rows, np.flatnonzero(np.diff(rows) > 8) + 1):
        first, last = int(piece[0]), int(piece[-1])
        for batch in dataset.iter_batches(last - first + 1, start=first, stop=last + 1, columns=names):
            columns = {name: _take(column, piece - first) for name, column in batch.columns.items()}
            found.append(Batch(first, columns))
    return found


def _take(column: Column, rows: Any) -> Column:
    if isinstance(column, Ragged):
        pieces = column.pieces()
        return Ragged.of_pieces([pieces[row] for row in rows.tolist()])
    return np.asarray(column[rows])


def _read_named(source: str, role: Role, options: DataOptions) -> Split:
    from gen_engine.train.data import read_data, read_fashion_mnist

    if source == "fashion-mnist/test":
        return split_of(read_fashion_mnist("test", options.resize), source, role)
    side = 8 if source == "digits" else 28  # their own; training makes the digits larger
    return split_of(read_data(source, ImageOptions(image_size=options.resize or side)), source, role)


def _read_folder(source: str, role: Role, options: DataOptions) -> Split:
    from gen_engine.train.data.folder import read_folder

    return split_of(read_folder(Path(source), options.images()), source, role)


def _read_arrays(source: str, role: Role, options: DataOptions) -> Rows:
    from gen_engine.evaluate.data import tables
    from gen_engine.train.data.arrays import read_arrays

    table = tables.of_arrays(source, role, options)
    if table is not None:
        return table
    return split_of(read_arrays(Path(source), options.images()), source, role)


def split_of(data: ImageData, source: str, role: Role) -> Split:
    """Return the images that a reader of training returned, with their classes if they have any."""
    shape = data.images_NHWC.shape[1:]
    fields = [Field(name="image", kind="image", dtype="uint8", shape=shape)]
    columns: dict[str, Column] = {"image": data.images_NHWC}
    if data.labels is not None:
        fields.append(Field(name="label", kind="label", dtype="int64", categories=data.class_names))
        columns["label"] = data.labels
    return image_split(role, source, Schema(tuple(fields)), columns, data.notes)
