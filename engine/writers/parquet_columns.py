"""The columns of a Parquet shard: their Arrow types, the features of ``datasets``, and the values.

Shape suffixes: B samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import WriterError
from gen_engine.engine.sample.schema import Column, Field, Ragged, Schema
from gen_engine.engine.writers.parquet_scalars import pyarrow, scalar_column, scalar_values
from gen_engine.engine.writers.shard import is_encoded


def arrow_schema(schema: Schema, codec: Codec) -> Any:
    """Return the columns, with their features under the metadata key ``huggingface``."""
    fields, features = [], {}
    for field in schema.columns:
        form = "file" if is_encoded(field, codec) else field.form
        features[field.column], column = _COLUMNS[form](field)
        fields.append(column)
    return pyarrow().schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def arrow_values(field: Field, values: Column, codec: Codec, start: int, kind: Any) -> Any:
    """Return the values of consecutive samples as an Arrow array. It refers to their memory.

    Args:
        field: the field.
        values: encoded files or texts in UTF-8, or an array [B, …].
        codec: the codec that encoded them.
        start: index of the first sample.
        kind: the column's type.
    """
    pa = pyarrow()
    if isinstance(values, Ragged):
        if field.form == "text":
            return _strings(pa.string(), values)
        name = "" if field.name in ("image", "sample") else f".{field.name}"
        paths = _paths(start, len(values), f"{name}.{codec.extension}")
        columns = [_strings(pa.binary(), values), _strings(pa.string(), paths)]
        return pa.StructArray.from_arrays(columns, fields=list(kind))
    if field.form == "scalar":
        return scalar_values(field, values, kind)
    return _nested(values)


def _strings(kind: Any, values: Ragged) -> Any:
    """Return bytes as an Arrow array, ``kind`` being binary or string with 32-bit offsets, without copying them.

    Raises:
        WriterError: they are too many for such offsets.
    """
    if values.offsets[-1] > np.iinfo(np.int32).max:
        raise WriterError(
            f"a row group has {values.offsets[-1]:,} bytes of one column, and Parquet's writer takes less than "
            f"{np.iinfo(np.int32).max:,}; use --format webdataset"
        )
    offsets, data = values.offsets.astype(np.int32), np.ascontiguousarray(values.values)
    pa = pyarrow()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _paths(start: int, count: int, ending: str) -> Ragged:
    """Return the names of files: twelve digits of the index, and the ending."""
    digits = np.arange(start, start + count)[:, None] // 10 ** np.arange(11, -1, -1) % 10 + ord("0")
    names = np.empty((count, 12 + len(ending)), np.uint8)
    names[:, :12], names[:, 12:] = digits, np.frombuffer(ending.encode(), np.uint8)
    return Ragged(names.reshape(-1), np.arange(count + 1) * names.shape[1])


def same_columns(one: Any, other: Any) -> bool:
    """Return whether two Arrow schemas have the same columns.

    Names of list items are ignored, and so are extension types, which exist only where ``datasets`` was imported.
    """
    return one.names == other.names and all(map(_same_type, one.types, other.types))


def _same_type(one: Any, other: Any) -> bool:
    pa = pyarrow()
    one, other = (getattr(kind, "storage_type", kind) for kind in (one, other))
    for is_list in (pa.types.is_list, pa.types.is_fixed_size_list):
        if is_list(one) and is_list(other):
            sizes = [getattr(kind, "list_size", None) for kind in (one, other)]
            return sizes[0] == sizes[1] and _same_type(one.value_type, other.value_type)
    return bool(one.equals(other))


def leaf(field: Field) -> str:
    """Return the path of an array column's values in the Parquet schema."""
    return field.column + ".list.element" * len(field.shape)


def _file_column(field: Field) -> tuple[dict[str, Any], Any]:
    pa = pyarrow()
    column = pa.field(field.column, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    return {"_type": _FEATURES.get(field.kind, "Image")}, column


_FEATURES = {"image": "Image", "audio": "Audio"}
"""Kind of an encoded field → the feature of ``datasets`` that decodes it."""


def _text_column(field: Field) -> tuple[dict[str, Any], Any]:
    pa = pyarrow()
    return {"dtype": "string", "_type": "Value"}, pa.field(field.column, pa.string())


def _array_column(field: Field) -> tuple[dict[str, Any], Any]:
    pa = pyarrow()
    rank = len(field.shape)
    kind = pa.from_numpy_dtype(field.numpy_dtype)
    if rank == 1:  # `datasets` has no Array1D: a list of a known length takes its place
        (length,) = field.sizes
        feature = {"feature": {"dtype": field.dtype, "_type": "Value"}, "length": length, "_type": "Sequence"}
        return feature, pa.field(field.column, pa.list_(kind, length))
    for _ in range(rank):
        kind = pa.list_(kind)
    # How Arrow marks an extension type, and `datasets` its arrays. Readers that do not support it see lists.
    mark = {
        "ARROW:extension:name": f"datasets.features.features.Array{rank}DExtensionType",
        "ARROW:extension:metadata": json.dumps([field.sizes, field.dtype]),
    }
    feature = {"shape": list(field.sizes), "dtype": field.dtype, "_type": f"Array{rank}D"}
    return feature, pa.field(field.column, kind, metadata=mark)


_COLUMNS: dict[str, Callable[[Field], tuple[dict[str, Any], Any]]] = {
    "file": _file_column,
    "media": _array_column,
    "array": _array_column,
    "scalar": scalar_column,
    "text": _text_column,
}
"""Form of a field, ``file`` if a codec encodes it → its feature for ``datasets``, and its column."""


def _nested(values_B: NDArray[Any]) -> Any:
    """Return an array [B, …] as Arrow lists of lists, which is how ``datasets`` stores an Array3D."""
    pa = pyarrow()
    array = pa.array(values_B.reshape(-1))
    if values_B.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(array, values_B.shape[1])
    for size in values_B.shape[:0:-1]:
        offsets = np.arange(0, len(array) + 1, size, dtype=np.int32)
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array
