"""Table files as batches of Arrow columns: one pass, in bounded memory.

CSV is read as text, so that types are decided by all rows and not by the first block; other formats state their types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import sha256_bytes, sha256_file
from gen_engine.engine.base.files import FileRefused, open_regular
from gen_engine.train.data.names import file_name, shown
from gen_engine.train.data.npz import read_members
from gen_engine.train.errors import DataError
from gen_engine.train.tables.arrow import arrow, first_line, native

BLOCK = 8 << 20
"""Bytes of CSV that are parsed at a time; no row may be longer."""

BATCH_ROWS = 1 << 16
MAX_COLUMNS = 10_000
MAX_NPZ = 8 << 30
"""Bytes of the arrays of an archive, which is read as a whole."""

MISSING = ("", "#N/A", "#NA", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null")
"""What a field of a CSV that is not in quotes may hold where the value is missing."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table on disk."""

    name: str
    files: tuple[Path, ...]
    columns: tuple[str, ...]
    """In order, without duplicates."""

    def batches(self) -> Iterator[Any]:
        """Yield the rows of all files as `pyarrow.RecordBatch`es with the columns in order; DataError."""
        for path in self.files:
            for batch in _READERS[path.suffix.lower()](path):
                _validate(batch, path)
                yield batch.select(list(self.columns))

    def digest(self) -> str:
        """SHA-256 (hex) over the digests of the files, in order."""
        return sha256_bytes("\n".join(sha256_file(path) for path in self.files).encode())


def open_table(data: str) -> Source:
    """Return a file, or the files of a directory in order of their names, as one table.

    Raises:
        DataError: it does not exist, is of another kind, cannot be read, or the files' columns differ.
    """
    files = _files(Path(data))
    names = [_names(path) for path in files]
    for path, found in zip(files, names, strict=True):
        _check_names(path, found)
        if set(found) != set(names[0]):
            differing = sorted(set(found) ^ set(names[0]))
            raise DataError(
                f"{shown(path)} and {shown(files[0])} have different columns ({', '.join(map(repr, differing[:5]))}): "
                "the files of a directory are one table"
            )
    return Source(name=file_name(Path(data)), files=tuple(files), columns=tuple(names[0]))


def _files(path: Path) -> list[Path]:
    kinds = ", ".join(_READERS)
    try:
        if not path.exists():
            raise DataError(f"data {shown(path)} does not exist: give a table ({kinds}) or a directory of them")
        if not path.is_dir():
            if path.suffix.lower() not in _READERS:
                raise DataError(f"data {shown(path)} is no table: its name must end with one of {kinds}")
            return [path]
        inside = sorted(one for one in path.iterdir() if not one.name.startswith((".", "_")))
    except OSError as error:
        raise DataError(f"data {shown(path)} cannot be opened ({error.strerror})") from error
    files = [one for one in inside if one.suffix.lower() in _READERS]
    suffixes = sorted({one.suffix.lower() for one in files})
    if not files:
        raise DataError(f"{shown(path)} holds no table: the names of its files must end with one of {kinds}")
    if len(suffixes) > 1:
        raise DataError(f"{shown(path)} holds tables of several kinds, {', '.join(suffixes)}: keep those of one kind")
    return files


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{shown(path)} has {twice[0]!r} twice among its columns: give each a name of its own")
    if not names:
        raise DataError(f"{shown(path)} has no columns")
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{shown(path)} has {len(names):,} columns, and at most {MAX_COLUMNS:,} are read")
    for name in names:
        if not name.strip() or "\0" in name or len(name) > 1000:
            raise DataError(
                f"{shown(path)} has a column named {name[:80]!r}: a name has 1 to 1,000 characters, and none is NUL"
            )


def _validate(batch: Any, path: Path) -> None:
    """Check offsets, dictionary indices and UTF-8, which Arrow does not when it reads: kernels trust them."""
    pa = arrow()
    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{shown(path)} is damaged: {first_line(error)}") from error


@contextmanager
def _reading(path: Path, what: str) -> Iterator[Any]:
    """Open a file; whatever Arrow finds wrong with it is a DataError."""
    pa = arrow()
    try:
        with open_regular(path) as file:
            yield file
    except pa.ArrowException as error:
        raise DataError(f"{shown(path)} cannot be read as {what}: {first_line(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{shown(path)} is not in UTF-8 ({error.reason}): convert it, for example with iconv"
        ) from error
    except FileRefused as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror or first_line(error)}") from error


def _csv_options(names: Sequence[str]) -> tuple[Any, Any, Any]:
    pa = arrow()
    from pyarrow import csv

    # One thread, so that blocks come in order and no more than a few are in memory.
    reading = csv.ReadOptions(block_size=BLOCK, use_threads=False)
    parsing = csv.ParseOptions(newlines_in_values=True)
    converting = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=list(MISSING),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return reading, parsing, converting


def _read_csv(path: Path, names: Sequence[str] = ()) -> Iterator[Any]:
    from pyarrow import csv

    names = names or _csv_names(path)
    with _reading(path, "CSV in UTF-8") as file:
        yield from csv.open_csv(native(file), *_csv_options(names))


def _csv_names(path: Path) -> list[str]:
    """The header of a CSV; Arrow reads its first block with types of its own choice, which are not used."""
    from pyarrow import csv

    with _reading(path, "CSV in UTF-8 with a header line") as file:
        if not file.peek(1):
            raise DataError(f"{shown(path)} is empty: a table has a header line and rows")
        names = list(csv.open_csv(native(file), *_csv_options(())).schema.names)
    _check_names(path, names)
    return names


def _read_parquet(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with _reading(path, "Parquet") as file, parquet.ParquetFile(file) as opened:
        yield from opened.iter_batches(batch_size=BATCH_ROWS, use_threads=False)


def _parquet_names(path: Path) -> list[str]:
    from pyarrow import parquet

    with _reading(path, "Parquet") as file:
        return list(parquet.read_schema(file).names)


def _open_ipc(file: Any) -> Any:
    """The reader of an Arrow file, or of a stream; Feather of version 2 is the former."""
    from pyarrow import ipc

    magic = file.read(6)
    file.seek(0)
    return ipc.open_file(file) if magic == b"ARROW1" else ipc.open_stream(file)


def _read_ipc(path: Path) -> Iterator[Any]:
    with _reading(path, "Arrow") as file:
        opened = _open_ipc(file)
        if hasattr(opened, "num_record_batches"):
            yield from (opened.get_batch(place) for place in range(opened.num_record_batches))
        else:
            yield from opened


def _ipc_names(path: Path) -> list[str]:
    with _reading(path, "Arrow") as file:
        return list(_open_ipc(file).schema.names)


def _read_npz(path: Path) -> Iterator[Any]:
    """One batch of the arrays with one axis, which must have one length."""
    pa = arrow()
    arrays, _ = read_members(path, _npz_names(path), MAX_NPZ)
    rows = {name: len(array) for name, array in arrays.items() if array.ndim == 1}
    if other := sorted(arrays.keys() - rows.keys()):
        raise DataError(f"{shown(path)}: {other[0]!r} has {arrays[other[0]].ndim} axes: a column has one")
    if len(set(rows.values())) > 1:
        raise DataError(f"{shown(path)}: its columns differ in length: {dict(list(rows.items())[:5])}")
    with _reading(path, "columns"):
        yield pa.RecordBatch.from_pydict(arrays)


def _npz_names(path: Path) -> list[str]:
    found, names = read_members(path, ("",), MAX_NPZ)
    if found:
        raise DataError(f"{shown(path)} is one array: save columns with np.savez(FILE, NAME=ARRAY, …)")
    return names


def _names(path: Path) -> list[str]:
    return _NAMES[path.suffix.lower()](path)


_READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_ipc,
    ".feather": _read_ipc,
    ".npz": _read_npz,
}
"""By the ending of a file's name: yields its batches, the columns in any order."""

_NAMES: dict[str, Callable[[Path], list[str]]] = {
    ".csv": _csv_names,
    ".parquet": _parquet_names,
    ".arrow": _ipc_names,
    ".feather": _ipc_names,
    ".npz": _npz_names,
}
