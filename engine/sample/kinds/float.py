"""Floating-point numbers: amounts, measurements."""

from __future__ import annotations

from gen_engine.engine.sample.kinds.scalar import Scalar


class Float(Scalar):
    """One floating-point number per sample: finite, or missing as NaN."""

    name = "float"
    dtypes = ("float32", "float64")
    nullable_dtypes = ("float32", "float64")
    labelled_task = "tabular-classification"
