"""The seed that a sample was made with."""

from __future__ import annotations

from gen_engine.engine.sample.kinds.scalar import Scalar


class Seed(Scalar):
    """The same for all samples of a dataset, and stored with each so that merged datasets keep it."""

    name = "seed"
    dtypes = ("uint64",)
    generated = False
