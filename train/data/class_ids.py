"""Labels as a file states them, whole numbers or text, to class ids. Legend: N images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.arrays import as_labels
from gen_engine.train.errors import DataError


def class_ids(
    values: Sequence[Any], kept: Sequence[int], names: Sequence[str] | None, where: str, what: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """int64 [N] and a name per class.

    Args:
        values: a label per image: integers are ids, text is the name of a class; text that is whole numbers are ids.
        kept: which of the images could be read: only these need a label, and only their labels are returned.
        names: the name of each id, or None if the source states none.
        where: the source, for messages.
        what: what holds the labels, such as "column 'label'".

    Raises:
        DataError: a label is missing, is neither a whole number nor text, or has no name.
    """
    chosen = [values[at] for at in kept]
    missing = sum(one is None for one in chosen)
    if missing:
        raise DataError(
            f"{where}: {missing:,} of {len(chosen):,} images have no label in {what}: give each one, or none"
        )
    labels = np.array([_number(one) for one in chosen]) if all(_is_number(one) for one in chosen) else None
    if labels is None:
        strange = [one for one in chosen if not isinstance(one, str | int)]
        if strange:
            raise DataError(f"{where}: {what} has {strange[0]!r}: labels are whole numbers or text")
        labels = np.array([str(one) for one in chosen])
    return as_labels(labels, None if names is None else np.array(list(names)), len(chosen), where)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.removeprefix("-").isdigit() and len(value) < 19
    return isinstance(value, bool | int) and abs(value) < 2**63


def _number(value: Any) -> int:
    return int(value)
