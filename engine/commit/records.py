"""The records of files and shards in the journal and the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from gen_engine.engine.base.parse import Fields, Reader, digest, integer, list_of, matching
from gen_engine.engine.plan.request import MAX_COUNT

MAX_BYTES = 2**62
MAX_FILES = 64
"""Of one shard."""

FILTER = "filter.bits"
"""Of a filtered dataset: a bit for each of its candidates, whether it was accepted."""

data_file: Reader[str] = matching("data/[A-Za-z0-9][A-Za-z0-9._-]*", 255)
"""Reads the name of a file directly inside ``data``; no name leads outside of it."""

index_number: Reader[int] = integer(0, MAX_COUNT - 1)
"""Reads the number of a shard or of a sample."""


class FileRecord(NamedTuple):
    """A file of a dataset."""

    name: str
    """Its name relative to the dataset."""

    bytes: int

    blake3: str
    """In hexadecimal."""

    sha256: str | None = None
    """SHA-256 in hexadecimal, for files whose format lists it in its own index."""

    def to_json(self) -> dict[str, Any]:
        """Return its fields; ``sha256`` only where it is known."""
        fields = self._asdict()
        return fields if self.sha256 is not None else {name: fields[name] for name in ("name", "bytes", "blake3")}

    @classmethod
    def take(cls, fields: Fields, name: Reader[str] = data_file) -> FileRecord:
        """Take a record's fields from those of a JSON object.

        Raises:
            DocumentError: they are missing or mistyped, or ``name`` does not read the file's name.
        """
        return cls(
            fields.take("name", name),
            fields.take("bytes", integer(0, MAX_BYTES)),
            fields.take("blake3", digest),
            fields.take_optional("sha256", digest),
        )

    @classmethod
    def from_json(cls, value: Any, where: str) -> FileRecord:
        """Read the record of a file in ``data``; raises DocumentError."""
        with Fields(value, where) as fields:
            return cls.take(fields)


@dataclass(frozen=True)
class ShardRecord:
    """A shard of a finished dataset: one line of ``shards.jsonl``."""

    shard: int

    first: int
    """Index of its first sample."""

    count: int
    files: tuple[FileRecord, ...]

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        files = [file.to_json() for file in self.files]
        return {"shard": self.shard, "first": self.first, "count": self.count, "files": files}

    @classmethod
    def from_json(cls, value: Any, where: str) -> ShardRecord:
        """Read what :meth:`to_json` returned; raises DocumentError."""
        with Fields(value, where) as fields:
            return cls(
                fields.take("shard", index_number),
                fields.take("first", index_number),
                fields.take("count", integer(1, MAX_COUNT)),
                fields.take("files", list_of(FileRecord.from_json, 1, MAX_FILES)),
            )
