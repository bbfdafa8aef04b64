"""pyarrow, which reads every table, imported when the first one is read."""

from __future__ import annotations

from typing import Any, BinaryIO

from gen_engine.engine.errors import BackendUnavailable


def arrow() -> Any:
    """Return the module `pyarrow`; BackendUnavailable, with what to install, where there is none."""
    try:
        import pyarrow
    except ImportError as error:
        raise BackendUnavailable("tables need pyarrow: pip install 'gen-engine[parquet]'") from error
    return pyarrow


def native(file: BinaryIO) -> Any:
    """Return an open file as one that Arrow reads by itself, from its beginning.

    Arrow reads CSV ahead on threads of its own. In a Python file these need the interpreter's lock, and one that waits
    for it when the interpreter ends, after an error in the first rows, aborts the process.
    """
    return arrow().OSFile(f"/dev/fd/{file.fileno()}")


def plain(column: Any) -> Any:
    """Return a chunk of a column without dictionaries and views: text as `string`, categories as their values.

    Args:
        column: a `pyarrow.Array`.
    """
    pa = arrow()
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    return column


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
