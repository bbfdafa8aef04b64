"""Rows that sides share, found by their contents.

Shape suffixes: N rows, D columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import blake3
import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Column, Ragged
from gen_engine.evaluate.metrics.scalars import BOOKKEEPING, is_table, scalar_fields, table_matrix
from gen_engine.evaluate.split import Split

_DIGEST = 16
_CHUNK = 8192


def row_digests(split: Split) -> NDArray[np.void]:
    """Return a digest of each row's contents, 16 bytes [N]: of the image alone, or of all fields of other rows."""
    image = split.image
    if image is not None:
        column: Any = split[image.name]
        return _digests(column.reshape(len(split), -1), ())
    scalars = scalar_fields(split)
    others = [one for one in split.schema if one not in scalars and one.kind not in BOOKKEEPING]
    matrix_ND = table_matrix(split, np.arange(len(split))) + 0.0  # -0 is 0
    return _digests(matrix_ND, [split[one.name] for one in others])


def _digests(rows_ND: NDArray[Any], others: Sequence[Column]) -> NDArray[np.void]:
    found = bytearray()
    for start in range(0, len(rows_ND), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        pieces = [_pieces(one[chunk]) for one in others]
        for place, row in enumerate(np.ascontiguousarray(rows_ND[chunk])):
            digest = blake3.blake3(row.tobytes())
            for one in pieces:
                # Its length first: no two rows are the same bytes cut at other places.
                digest.update(len(one[place]).to_bytes(8, "little") + one[place])
            found += digest.digest(_DIGEST)
    return np.frombuffer(bytes(found), f"V{_DIGEST}")


def _pieces(column: Column) -> list[bytes]:
    if isinstance(column, Ragged):
        return column.pieces()
    return [row.tobytes() for row in np.ascontiguousarray(column)]


def split_digest(split: Split) -> str:
    """Return BLAKE3 of a side's columns: names, kinds and values, in order."""
    digest = blake3.blake3()
    for field in split.schema:
        digest.update(f"{field.name}\0{field.kind}\0{field.dtype}\0{field.categories}\0".encode())
        column = split[field.name]
        if isinstance(column, Ragged):
            digest.update(column.offsets.tobytes())
            column = column.values
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def shared_notes(splits: Sequence[Split]) -> tuple[str, ...]:
    """Return what the sides share, a sentence for each pair that shares rows."""
    digests = {split.role: row_digests(split).tolist() for split in splits}
    train = set(digests["train"])
    by_role = {split.role: split for split in splits}
    what = "rows" if is_table(by_role["train"]) else "images"
    notes = []
    if by_role["synthetic"].source == by_role["train"].source or all(one in train for one in digests["synthetic"]):
        notes.append(f"warning: every synthetic row is also in --train: these {what} are the training data, not new")
    elif shared := sum(one in train for one in digests["synthetic"]):
        notes.append(f"{shared / len(digests['synthetic']):.2%} of the synthetic {what} are also in --train")
    if "test" in digests and (shared := sum(one in train for one in digests["test"])):
        total = len(digests["test"])
        notes.append(
            f"warning: {shared / total:.2%} of the {what} of --test are also in --train, {shared:,} of {total:,}: "
            "figures that need unseen rows are too good by what a model remembers of them"
        )
    return tuple(notes)
