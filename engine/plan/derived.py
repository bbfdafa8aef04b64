"""What a dataset was derived from: another dataset, or data of a user, whose samples were changed one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from gen_engine.engine.base.parse import Fields, Reader, anything, digest, flag, mapping_of, number, text
from gen_engine.engine.base.strict_json import DocumentError

Value: TypeAlias = str | int | float | bool
"""A setting, or a figure that was measured."""


@dataclass(frozen=True, kw_only=True)
class Derived:
    """How a dataset follows from another, whose fields its plan has, except the storage; or from a user's data."""

    dataset: str
    """Digest of the other dataset's manifest, which pins its plan and every one of its files; or SHA-256 of a user's
    data as they were read."""

    process: str
    """What changed the samples: ``attack``, ``augment``."""

    settings: Mapping[str, Value]
    """All that the changed samples depend on besides the dataset and the computation."""

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return {"dataset": self.dataset, "process": self.process, "settings": dict(self.settings)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Derived:
        """Read what :meth:`to_json` returned.

        Raises:
            DocumentError: the document is malformed.
        """
        with Fields(value, where) as fields:
            return cls(
                dataset=fields.take("dataset", digest),
                process=fields.take("process", text(100)),
                settings=fields.take("settings", values),
            )


def _value(value: Any, where: str) -> Value:
    readers: dict[type, Reader[Any]] = {str: text(), bool: flag, int: anything, float: number(-1e300, 1e300)}
    reader = readers.get(type(value))
    if reader is None:
        raise DocumentError(where, f"a {type(value).__name__} is not text, a number, true or false")
    read: Value = reader(value, where)
    return read


values: Reader[Mapping[str, Value]] = mapping_of(_value)
"""Reads names with values that are text, numbers, true or false."""
