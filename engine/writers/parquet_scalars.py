"""The columns of a table in Parquet: their Arrow types, the features of ``datasets``, and their values both ways.

Shape suffixes: B samples, K categories.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import WriterUnavailable
from gen_engine.engine.sample.field import Field
from gen_engine.engine.sample.kinds.decimal import DIGITS
from gen_engine.engine.writers.shard import ByIdentity

_MS = 1_000
_DICTIONARIES = 1 << 14
"""Arrow arrays of categories that are kept: made once per process, not once per shard."""


def pyarrow() -> Any:
    """Import pyarrow; raises WriterUnavailable, naming what to install, if it is missing."""
    try:
        import pyarrow
    except ImportError as error:
        raise WriterUnavailable(
            f"format parquet needs pyarrow ({error}): pip install 'gen-engine[parquet]', or use --format webdataset"
        ) from error
    return pyarrow


def scalar_column(field: Field) -> tuple[dict[str, Any], Any]:
    """Return a number's feature for ``datasets``, and its Arrow field."""
    pa = pyarrow()
    kind, dtype = _arrow_type(field)
    if field.categories is not None and not field.is_column:
        return {"names": list(field.categories), "_type": "ClassLabel"}, pa.field(field.name, kind)
    column = pa.field(field.column, kind, nullable=field.nullable or not field.is_column)
    return {"dtype": dtype, "_type": "Value"}, column


def _arrow_type(field: Field) -> tuple[Any, str]:
    """Return the Arrow type of a number, and its name in ``datasets``."""
    pa, logical = pyarrow(), field.behaviour.logical
    if logical == "category":
        return (pa.dictionary(pa.int32(), pa.string()), "string") if field.is_column else (pa.int64(), "int64")
    if logical == "boolean":
        return pa.bool_(), "bool"
    if logical == "date":
        return pa.date32(), "date32"
    if logical == "datetime":
        kind = pa.timestamp("ms" if field.unit == "s" else field.unit, "UTC" if field.utc else None)
        return kind, str(kind)
    if logical == "decimal":
        return pa.decimal128(DIGITS, field.scale), f"decimal128({DIGITS}, {field.scale})"
    return pa.from_numpy_dtype(field.numpy_dtype), field.dtype


def scalar_values(field: Field, values_B: NDArray[Any], kind: Any) -> Any:
    """Return a number of consecutive samples as an Arrow array of type ``kind``, null where it is missing."""
    pa, logical = pyarrow(), field.behaviour.logical
    missing_B = field.missing(values_B)
    if logical == "category" and field.is_column:
        return _dictionary_array(field, values_B, missing_B)
    if logical == "boolean":
        return pa.array(values_B.astype(bool, copy=False), mask=missing_B)
    if logical in ("date", "datetime"):
        if field.unit == "s":
            values_B = values_B * _MS  # Parquet has no seconds
        return pa.array(values_B, mask=missing_B).view(kind)
    if logical == "decimal":
        words_B2 = np.empty((len(values_B), 2), "<i8")  # 128 bits, in two's complement
        words_B2[:, 0], words_B2[:, 1] = values_B, values_B >> 63
        (validity, _) = pa.array(values_B, mask=missing_B).buffers()
        return pa.Array.from_buffers(kind, len(values_B), [validity, pa.py_buffer(words_B2)])
    return pa.array(values_B, kind, mask=missing_B)


@lru_cache(maxsize=_DICTIONARIES)
def _dictionary(categories: ByIdentity[tuple[str, ...]]) -> Any:
    pa = pyarrow()
    return pa.array(categories.value, pa.string())


def _dictionary_array(field: Field, ids_B: NDArray[Any], missing_B: NDArray[np.bool_] | None) -> Any:
    """Return ids as a dictionary array. Of more categories than rows, only those that occur are in the dictionary."""
    pa = pyarrow()
    dictionary = _dictionary(ByIdentity(field.categories or ()))
    if len(dictionary) > len(ids_B):
        occurs_K = np.zeros(len(dictionary), bool)
        occurs_K[ids_B if missing_B is None else ids_B[~missing_B]] = True
        ids_B = (np.cumsum(occurs_K) - 1)[ids_B]
        dictionary = dictionary.take(pa.array(np.flatnonzero(occurs_K)))
    indices = pa.array(ids_B.astype(np.int32, copy=False), mask=missing_B)
    return pa.DictionaryArray.from_arrays(indices, dictionary, safe=False)  # the renderer checked the ids


def read_scalars(field: Field, whole: Any) -> NDArray[Any]:
    """Return the values of an Arrow array as the field's arrays have them.

    Raises:
        ValueError: one is null where none can be missing, or is none of the field's.
    """
    pa, logical = pyarrow(), field.behaviour.logical
    if whole.null_count and not field.nullable:
        raise ValueError(f"column {field.column!r} has nulls")
    missing_B = np.asarray(whole.is_null()) if whole.null_count else None
    if logical == "category" and field.is_column:
        return _ids(field, whole)
    if logical == "decimal":
        values_B = _decimals(field, whole)
    else:
        if logical in ("date", "datetime"):
            whole = whole.view(pa.from_numpy_dtype(field.numpy_dtype))
        if missing_B is not None:
            whole = whole.fill_null(False if logical == "boolean" else 0)
        values_B = np.array(whole.to_numpy(zero_copy_only=False), field.numpy_dtype)
        if field.unit == "s":
            values_B, rest_B = np.divmod(values_B, _MS)
            if rest_B.any():
                raise ValueError(f"column {field.column!r} has fractions of its unit, seconds")
    if missing_B is not None:
        values_B[missing_B] = field.missing_value
    return values_B


def _ids(field: Field, whole: Any) -> NDArray[Any]:
    from pyarrow import compute

    places = compute.index_in(whole.dictionary, _dictionary(ByIdentity(field.categories or ())))
    if places.null_count:
        raise ValueError(f"column {field.column!r} has a category that the schema lacks")
    # One more place, which the null index -1 means.
    ids_K = np.append(places.to_numpy(zero_copy_only=False), -1)
    indices_B = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    ids_B: NDArray[Any] = ids_K[indices_B].astype(field.numpy_dtype)
    return ids_B


def _decimals(field: Field, whole: Any) -> NDArray[Any]:
    words_B2 = np.frombuffer(whole.buffers()[1], "<i8").reshape(-1, 2)[whole.offset : whole.offset + len(whole)]
    valid_B = slice(None) if not whole.null_count else ~np.asarray(whole.is_null())
    if (words_B2[valid_B, 1] != words_B2[valid_B, 0] >> 63).any():
        raise ValueError(f"column {field.column!r} has a number of more than {DIGITS} digits")
    return words_B2[:, 0].copy()
