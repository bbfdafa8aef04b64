"""The preview of a dataset: its first samples in one image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.png import ZlibPngCodec
from gen_engine.engine.sample.schema import Batch, Field, Schema

SAMPLES = 100
MOST_COLUMNS = 1_120
"""Columns of a table in the preview: two pictures of ten wide, at a pixel per column."""


def shown_field(schema: Schema) -> Field:
    """Return the field that the preview shows: the first that is not a single number, else the first."""
    return next((field for field in schema.outputs if field.shape), schema.outputs[0])


def preview(batches: Iterable[Batch], schema: Schema) -> bytes:
    """Return a PNG file that shows samples in order, as the kind of :func:`shown_field` draws them.

    If the generator makes only numbers, all of them are shown: one row per sample, one column per field. Missing values
    are chequered, and columns of a table beyond :data:`MOST_COLUMNS` are left out.

    Args:
        batches: consecutive samples; only what the preview needs is kept of each batch.
        schema: their fields.
    """
    shown = shown_field(schema)
    numbers = schema.outputs[:MOST_COLUMNS] if schema.is_table else schema.outputs
    names = [shown.name] if shown.shape else [field.name for field in numbers]
    parts = [_reduced(batch, names, schema) for batch in batches]
    return ZlibPngCodec().encode(shown.behaviour.sheet(np.concatenate(parts))[None]).pieces()[0]


def _column(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    """Return what the preview needs of a field; missing values as NaN."""
    reduced = field.behaviour.reduce(values)
    missing_B = field.missing(values)
    if missing_B is not None:
        reduced[missing_B] = np.nan
    return reduced


def _reduced(batch: Batch, names: list[str], schema: Schema) -> NDArray[Any]:
    columns = [_column(schema[name], np.asarray(batch[name])) for name in names]
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
