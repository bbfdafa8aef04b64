"""The contract of kinds of fields. A new kind is one module with a subclass, and a line in the registry."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gen_engine.engine.sample.field import Field

Form = Literal["media", "array", "scalar", "text"]
"""How writers store a field's values: as a file per sample where the dataset's codec holds the kind and as an array
where it does not; as an array; as a number; as UTF-8."""

Logical = Literal["number", "boolean", "category", "date", "datetime", "decimal"]
"""What a scalar is to formats that have a type for it, such as Parquet, or a notation, such as CSV."""


class Kind(ABC):
    """What the values of a field mean. Stateless."""

    name: ClassVar[str]
    """Its name as the ``kind`` of a field."""

    axes: ClassVar[tuple[str, ...]]
    """Names of the axes of one sample's values, channels last."""

    dtypes: ClassVar[tuple[str, ...]]
    """dtypes that the values may have, the default first."""

    nullable_dtypes: ClassVar[tuple[str, ...]] = ()
    """dtypes of a field whose values may be missing, the default first; none if no value of the kind can be missing."""

    attributes: ClassVar[tuple[str, ...]] = ()
    """Which of ``unit``, ``utc`` and ``scale`` a field of the kind may have."""

    form: ClassVar[Form] = "array"
    """How formats store the values: ``media``, ``array``, ``scalar`` or ``text``."""

    logical: ClassVar[Logical] = "number"
    """What a scalar is to formats with types of their own."""

    generated: ClassVar[bool] = True
    """Whether a generator's graph makes values of this kind; the engine makes the others."""

    caption: ClassVar[str] = "The first samples"
    """The caption of the preview in the card."""

    task: ClassVar[str | None] = None
    labelled_task: ClassVar[str | None] = None
    """The Hugging Face Hub's task category of datasets without and with labels, where it has one."""

    def check(self, field: Field) -> None:
        """Raise ValueError unless such a field can be of this kind."""
        if len(field.shape) != len(self.axes):
            raise ValueError(
                f"field {field.name}: shape {list(field.shape)}: a value of kind {self.name} is "
                f"[{', '.join(self.axes)}]"
            )
        self.check_dtype(field)
        if None in field.shape and self.form != "text":
            raise ValueError(f"field {field.name}: kind {self.name} has no axis of varying length")
        if field.categories is not None:
            raise ValueError(f"field {field.name}: kind {self.name} has no categories")

    def check_dtype(self, field: Field) -> None:
        """Raise ValueError unless the kind is stored in the field's dtype."""
        dtypes = self.nullable_dtypes if field.nullable else self.dtypes
        if field.dtype not in dtypes:
            missing = ", with missing values," if field.nullable else ""
            raise ValueError(
                f"field {field.name}: dtype {field.dtype!r}: kind {self.name}{missing} is stored as "
                f"{' or '.join(dtypes)}"
            )

    def missing_value(self, field: Field) -> float | int:
        """Return what an array holds for a missing value: NaN, or the least value of a signed dtype."""
        dtype = np.dtype(field.dtype)
        return float("nan") if dtype.kind == "f" else int(np.iinfo(dtype).min)

    def describe(self, field: Field) -> str:
        """Return the kind of a scalar in words, its parameters included."""
        return self.name

    invalid: ClassVar[str] = "value that is NaN or infinite"
    """The description in messages of a value that :meth:`valid` refuses."""

    def valid(self, values: NDArray[Any], field: Field) -> NDArray[np.bool_] | None:
        """Return which samples have only values that the field can have, bool [B]; None if all have."""
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return None
        finite_BV = np.isfinite(values.reshape(len(values), -1))
        if field.nullable:
            finite_BV |= np.isnan(values.reshape(len(values), -1))
        finite_B: NDArray[np.bool_] = finite_BV.all(axis=1)
        return None if finite_B.all() else finite_B

    def suspects(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which samples may come from NaN that a cast to integers has hidden: bool [B]."""
        return np.zeros(len(values), bool)

    def reduce(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of what the preview needs of consecutive samples."""
        raise NotImplementedError

    def sheet(self, reduced: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the preview of samples that :meth:`reduce` was called with: uint8 [H, W, C], 1 to 4 channels."""
        raise NotImplementedError


def check_categories(field: Field) -> None:
    """Raise ValueError unless the field has categories."""
    if not field.categories:
        raise ValueError(f"field {field.name}: kind {field.kind} needs categories")
