"""Integers: counts, codes, identifiers."""

from __future__ import annotations

from gen_engine.engine.sample.kinds.scalar import Scalar


class Integer(Scalar):
    """One integer per sample."""

    name = "integer"
    dtypes = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
    labelled_task = "tabular-classification"
