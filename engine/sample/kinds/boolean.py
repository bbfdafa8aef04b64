"""Booleans."""

from __future__ import annotations

from gen_engine.engine.sample.kinds.scalar import Scalar


class Boolean(Scalar):
    """True or false."""

    name = "boolean"
    dtypes = ("bool",)
    labelled_task = "tabular-classification"
