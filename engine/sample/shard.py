"""A shard, and the files that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The samples ``[start, stop)``, which are written together. Independent of the format."""

    number: int
    start: int
    stop: int


class WrittenFile(NamedTuple):
    """A file of a finished shard, still under its temporary name, its bytes on the disk."""

    name: str
    """Its final name, relative to the dataset directory: ``data/train-00000-of-00010.parquet``."""

    temporary: Path
    bytes: int

    blake3: str
    """BLAKE3 in hexadecimal, as for all files of a dataset."""

    sha256: str | None = None
    """SHA-256 in hexadecimal, for formats whose own index needs it."""


class FinishedShard(NamedTuple):
    """A published shard, for formats that list all shards in an index of their own."""

    samples: int
    files: Sequence[Mapping[str, Any]]
    """``{"name": …, "bytes": …, "blake3": …}`` each, and ``"sha256"`` where the writer computed it.

    The name is relative to the dataset directory.
    """
