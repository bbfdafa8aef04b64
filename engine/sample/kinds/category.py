"""Categories: one of a fixed list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.kinds.contract import check_categories
from gen_engine.engine.sample.kinds.scalar import Scalar, within

if TYPE_CHECKING:
    from gen_engine.engine.sample.field import Field


class Category(Scalar):
    """The id of a category, its position in the field's ``categories``; -1 for a missing one."""

    name = "category"
    dtypes: ClassVar[tuple[str, ...]] = ("int64", "int32", "int16", "int8", "uint8")
    nullable_dtypes: ClassVar[tuple[str, ...]] = ("int64", "int32", "int16", "int8")
    logical = "category"
    labelled_task = "tabular-classification"

    invalid = "category id that is not one of its field's"

    def valid(self, values: NDArray[Any], field: Field) -> NDArray[np.bool_] | None:
        """Return which ids are categories; None if all are."""
        return within(values, 0, len(field.categories or ()) - 1, field)

    def missing_value(self, field: Field) -> int:
        """Return -1."""
        return -1

    def describe(self, field: Field) -> str:
        """Return the kind and the number of categories."""
        return f"{self.name} of {len(field.categories or ()):,}"

    def check(self, field: Field) -> None:
        """Raise ValueError unless the field has categories, and its dtype has an id for each."""
        check_categories(field)
        if field.shape or field.dtype not in self.dtypes:
            raise ValueError(
                f"field {field.name}: {field.dtype} {list(field.shape)}: a value of kind {self.name} is one number, "
                f"{' or '.join(self.dtypes)}"
            )
        self.check_dtype(field)
