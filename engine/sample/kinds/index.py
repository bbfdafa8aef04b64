"""The index of a sample in its dataset."""

from __future__ import annotations

from gen_engine.engine.sample.kinds.scalar import Scalar


class Index(Scalar):
    """0 for the first sample."""

    name = "index"
    dtypes = ("int64",)
    generated = False
