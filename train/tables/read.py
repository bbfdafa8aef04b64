"""A table's rows in bounded memory: one pass over the files, profiles of all rows and a random share of them kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import DataError
from gen_engine.train.tables.arrow import arrow
from gen_engine.train.tables.options import TableOptions
from gen_engine.train.tables.profile import Profile
from gen_engine.train.tables.sources import Source


@dataclass(frozen=True, kw_only=True, eq=False)
class TableData:
    """A table that was read."""

    profiles: tuple[Profile, ...]
    """Of all rows, a column each."""

    rows: int
    """Of the table."""

    kept: Any
    """`pyarrow.Table`: all rows, or some drawn at random, in the order of the files."""


class Reservoir:
    """A uniform sample of rows without replacement: each row has a random key, and the rows of the least are kept.

    Args:
        rows: most rows.
        size: most bytes; the number of rows is halved until they fit.
        seed: of the keys.
    """

    def __init__(self, rows: int, size: int, seed: int) -> None:
        self._most, self._size = rows, size
        self._rng = np.random.Generator(np.random.PCG64([seed, 1]))
        self._tables: list[Any] = []
        self._keys: list[NDArray[np.uint64]] = []

    def add(self, batch: Any) -> None:
        """Take the next rows, `pyarrow.RecordBatch`."""
        keys = self._rng.integers(0, 2**64, len(batch), np.uint64)
        self._tables.append(arrow().table(batch))
        self._keys.append(keys)
        if sum(map(len, self._keys)) > 2 * self._most or self._bytes() > self._size:
            self._prune()

    def table(self) -> Any:
        """Return the rows that are kept."""
        self._prune()
        return arrow().concat_tables(self._tables, promote_options="default")

    def _bytes(self) -> int:
        return sum(table.nbytes for table in self._tables)

    def _prune(self) -> None:
        keys = np.concatenate(self._keys)
        while len(keys) > self._most or (self._bytes() > self._size and len(keys) > 1):
            self._most = self._most if len(keys) > self._most else len(keys) // 2
            rows = np.sort(np.argpartition(keys, self._most - 1)[: self._most])
            table = arrow().concat_tables(self._tables, promote_options="default").take(rows)
            self._tables, self._keys, keys = [table], [keys[rows]], keys[rows]


def read_table(source: Source, options: TableOptions) -> TableData:
    """Read a table.

    Raises:
        DataError: it has no rows, cannot be read, or a column has two types.
    """
    profiles = tuple(Profile(name) for name in source.columns)
    reservoir = Reservoir(options.max_rows, options.max_data_size, options.seed)
    rows = 0
    for batch in source.batches():
        rows += len(batch)
        for profile, column in zip(profiles, batch.columns, strict=True):
            try:
                profile.add(column)
            except TypeError as error:
                raise DataError(
                    f"{source.name}: column {profile.name!r} is {error}: write one type to all files"
                ) from error
        if len(batch):
            reservoir.add(batch)
    if not rows:
        columns = ", ".join(source.columns[:20])
        raise DataError(f"{source.name} has no rows: its columns are {columns}")
    return TableData(profiles=profiles, rows=rows, kept=reservoir.table())
