"""Tables: CSV, Parquet and two-dimensional arrays, as Arrow reads them.

Shape suffixes: N rows, D columns.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from gen_engine.engine.base.files import DATA, FileRefused, open_regular
from gen_engine.engine.errors import DatasetError
from gen_engine.engine.sample.schema import Column, Field, Ragged
from gen_engine.engine.writers.parquet_scalars import scalar_column, scalar_values
from gen_engine.evaluate.data.encoded import choose_files
from gen_engine.evaluate.data.options import DataOptions
from gen_engine.evaluate.data.rows import Table, chosen_rows, drawn_note
from gen_engine.evaluate.split import Role
from gen_engine.train.tables.arrow import arrow, native

_LARGEST_BLOCK: Final = 1 << 30
"""Bytes of a CSV from which the types of its columns are inferred: all of it, if it is not larger."""

_ARRAYS: Final = (("x", "X", "data", "features"), ("y", "labels", "target"))


def read(source: str, role: Role, options: DataOptions) -> Table:
    """Return the rows of CSV files.

    Raises:
        DatasetError: a file is not CSV in UTF-8, has no rows, or its columns differ from the others'.
    """
    files, notes = choose_files(source, ".csv", role)
    return _finished(source, role, _joined(source, [_read_csv(path) for path in files]), options, notes)


def _read_csv(path: Path) -> Any:
    pa = arrow()
    from pyarrow import csv

    try:
        with open_regular(path, DATA) as file:
            size = os.fstat(file.fileno()).st_size
            options = csv.ReadOptions(block_size=int(np.clip(size, 1 << 20, _LARGEST_BLOCK)))
            parsing = csv.ParseOptions(newlines_in_values=True)
            converting = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
            table = csv.read_csv(native(file), options, parsing, converting)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path} cannot be read as CSV ({reason}): it must be UTF-8 with a header line") from error
    except FileRefused:
        raise
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror or error})") from error
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if bytes_ := [one.name for one in table.schema if pa.types.is_binary(one.type)]:
        raise DatasetError(f"{path}: column {bytes_[0]!r} is not UTF-8: convert the file, for example with iconv")
    if twice:
        raise DatasetError(f"{path} has {twice[0]!r} twice in its header: give each column a name of its own")
    return table


def parquet_schema(files: Sequence[Path]) -> Any:
    """Return the schema of the first file.

    Raises:
        DatasetError: it is no Parquet.
    """
    pa = arrow()
    from pyarrow import parquet

    try:
        with open_regular(files[0]) as file:
            return parquet.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{files[0]} cannot be read as Parquet ({str(error).splitlines()[0]})") from error


def read_files(source: str, role: Role, options: DataOptions, files: Sequence[Path], notes: tuple[str, ...]) -> Table:
    """Return the rows of Parquet files; raises like :func:`load_parquet`."""
    return _finished(source, role, load_parquet(source, files, None, options), options, notes)


def load_parquet(source: str, files: Sequence[Path], columns: list[str] | None, options: DataOptions) -> Any:
    """Return a ``pyarrow.Table`` of some columns.

    Raises:
        DatasetError: a file is no Parquet, lacks a column, needs more memory than allowed, or has other columns than
            the first.
    """
    pa = arrow()
    from pyarrow import parquet

    tables, left = [], options.memory
    for path in files:
        try:
            with open_regular(path) as file, parquet.ParquetFile(file) as opened:
                if missing := sorted(set(columns or ()) - set(opened.schema_arrow.names)):
                    known = ", ".join(opened.schema_arrow.names)
                    raise DatasetError(f"{path} has no column {missing[0]!r}: it has {known}")
                batches = []
                for batch in opened.iter_batches(columns=columns):
                    left -= batch.nbytes
                    if left < 0:
                        raise DatasetError(f"{source} takes more than {options.memory:,} bytes: raise --memory")
                    batches.append(batch)
                tables.append(pa.Table.from_batches(batches, batches[0].schema if batches else opened.schema_arrow))
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    return _joined(source, tables)


def of_arrays(source: str, role: Role, options: DataOptions) -> Table | None:
    """Return the rows of an npz or npy whose array has two axes, or None if it holds none: images, perhaps.

    Raises:
        DataError: it cannot be read without unpickling, or is damaged.
        DatasetError: the target has another number of rows.
    """
    from gen_engine.train.data.npz import read_members

    (inputs, targets) = _ARRAYS
    arrays, _ = read_members(Path(source), (*inputs, *targets), options.memory)
    values_ND = next((arrays[name] for name in inputs if name in arrays), None)
    if values_ND is None or values_ND.ndim != 2 or values_ND.dtype.kind not in "fiub":
        return None
    columns = {f"column {place}": values_ND[:, place] for place in range(values_ND.shape[1])}
    target = next((arrays[name] for name in targets if name in arrays), None)
    if target is not None:
        if target.shape != (len(values_ND),):
            raise DatasetError(f"{source}: {len(values_ND):,} rows and a target of shape {list(target.shape)}")
        columns["target"] = target
    return _finished(source, role, arrow().table(columns), options, ())


def of_columns(
    source: str, role: Role, fields: Sequence[Field], columns: Mapping[str, Column], notes: tuple[str, ...]
) -> Table:
    """Return the rows of a dataset of ours that has no images."""
    pa = arrow()
    made, notes = {}, tuple(notes)
    for one in fields:
        column = columns[one.name]
        if isinstance(column, Ragged):
            made[one.column] = pa.array([piece.decode(errors="replace") for piece in column.pieces()], pa.string())
        elif one.shape:
            notes = (*notes, f"field {one.name} of kind {one.kind} and shape {list(one.shape)} was left out")
        elif one.categories is not None and not one.is_column:
            ids = pa.array(column.astype(np.int32), mask=column < 0)
            made[one.name] = pa.DictionaryArray.from_arrays(ids, pa.array(one.categories))
        elif one.is_column or one.nullable:
            made[one.column] = scalar_values(one, column, scalar_column(one)[1].type)
        else:
            made[one.name] = pa.array(column, mask=np.isnan(column) if column.dtype.kind == "f" else None)
    if not made:
        raise DatasetError(f"{source} has no field that is an image, a number or a category")
    labels = frozenset(one.column for one in fields if one.kind == "label")
    return Table(role, source, pa.table(made), notes, labels)


def _joined(source: str, tables: Sequence[Any]) -> Any:
    """Return the rows of all files, whose columns have equal names; integers and floats are joined as floats."""
    pa = arrow()
    first = tables[0]
    for table in tables[1:]:
        if set(table.column_names) != set(first.column_names):
            differing = sorted(set(table.column_names) ^ set(first.column_names))
            raise DatasetError(f"the files of {source} have different columns: {', '.join(differing)}")
    try:
        return pa.concat_tables([table.select(first.column_names) for table in tables], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DatasetError(f"the files of {source} have columns of different types ({error})") from error


def _finished(source: str, role: Role, table: Any, options: DataOptions, notes: tuple[str, ...]) -> Table:
    if not table.num_rows:
        raise DatasetError(f"{source} has no rows: its columns are {', '.join(table.column_names) or 'none'}")
    rows_N = chosen_rows(table.num_rows, table.nbytes // table.num_rows, role, options)
    notes = (*notes, *drawn_note(table.num_rows, len(rows_N)))
    if len(rows_N) < table.num_rows:
        table = table.take(rows_N)
    return Table(role, source, table, notes)
