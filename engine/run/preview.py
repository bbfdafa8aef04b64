"""The preview of a dataset: its first samples in one image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.png import ZlibPngCodec
from gen_engine.engine.sample.schema import Batch, Field, Schema

SAMPLES = 100


def shown_field(schema: Schema) -> Field:
    """Return the field that the preview shows: the first that is not a single number, else the first."""
    return next((field for field in schema.outputs if field.shape), schema.outputs[0])


def preview(batches: Iterable[Batch], schema: Schema) -> bytes:
    """Return a PNG file that shows samples in order, as the kind of :func:`shown_field` draws them.

    If the generator makes only numbers, all of them are shown: one row per sample, one column per field.

    Args:
        batches: consecutive samples; only what the preview needs is kept of each batch.
        schema: their fields.
    """
    shown = shown_field(schema)
    names = [shown.name] if shown.shape else [field.name for field in schema.outputs]
    parts = [_reduced(batch, names, schema) for batch in batches]
    return ZlibPngCodec().encode(shown.behaviour.sheet(np.concatenate(parts))[None]).pieces()[0]


def _reduced(batch: Batch, names: list[str], schema: Schema) -> NDArray[Any]:
    columns = [schema[name].behaviour.reduce(np.asarray(batch[name])) for name in names]
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
