"""The label of a sample: the class that a conditional generator made it from."""

from __future__ import annotations

from typing import ClassVar

from gen_engine.engine.sample.kinds.category import Category


class Label(Category):
    """A class id. The plan of a job says of which class each sample is."""

    name = "label"
    dtypes: ClassVar[tuple[str, ...]] = ("int64",)
    nullable_dtypes: ClassVar[tuple[str, ...]] = ()
    generated = False
