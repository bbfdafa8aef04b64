"""Text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gen_engine.engine.sample.kinds.contract import Kind

if TYPE_CHECKING:
    from gen_engine.engine.sample.schema import Field


class String(Kind):
    """Text of any length, in UTF-8. Its column is :class:`~gen_engine.engine.sample.schema.Ragged`."""

    name = "string"
    axes = ("bytes",)
    dtypes = ("string",)
    form = "text"

    def check(self, field: Field) -> None:
        """Raise ValueError unless the field is ``string`` with one axis of varying length."""
        super().check(field)
        if field.shape != (None,):
            raise ValueError(f"field {field.name}: shape {list(field.shape)}: text is [null]")
