"""What the formats share: shard files that are committed together, samples in order and complete."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from gen_engine.engine.base.strict_json import show
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import RequestError, VerifyError, WriterError
from gen_engine.engine.sample.schema import Batch, Field, Layout, Ragged, Record, Schema
from gen_engine.engine.sample.shard import FinishedShard, Shard, WrittenFile
from gen_engine.engine.writers.contract import ShardFile
from gen_engine.engine.writers.staged import StagedFile

T = TypeVar("T")

MAX_TEXT_BYTES = 1 << 24
"""Limit for one text when reading: a longer one is treated as damage."""


class ShardsAlone:
    """Base of the formats that need no index, whose shards may have any size and hold any field."""

    default_shard_bytes: int | None = None
    max_shard_bytes: int | None = None
    lists_sha256 = False

    def check(self, layout: Layout) -> None:
        """Do nothing: every field can be stored."""

    def index_head(self, layout: Layout, codec: Codec) -> Mapping[str, Any] | None:
        """Return None: there is no index."""
        return None

    def index(self, head: Mapping[str, Any], shards: Iterable[FinishedShard]) -> Mapping[str, bytes]:
        """Return nothing."""
        return {}


def is_encoded(field: Field, codec: Codec) -> bool:
    """Return whether formats that use codecs store a field as one encoded file per sample."""
    return field.form == "media" and field.kind in codec.kinds


def check_columns(schema: Schema, other: str) -> None:
    """Raise RequestError, naming another format, if two columns of a schema would have one name."""
    seen: dict[str, Field] = {}
    for field in schema.columns:
        if field.column in seen:
            raise RequestError(
                f"fields {seen[field.column].name} and {field.name} would both be column {show(field.column)}; use "
                f"--format {other}, which names files and not columns"
                + ("" if field.behaviour.generated else ", or leave out --with-latents")
            )
        seen[field.column] = field


class ByIdentity(Generic[T]):
    """A key that is compared by identity: to hash a million categories takes longer than to write their ids."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and self.value is other.value


def max_stored_bytes(field: Field) -> int:
    """Return the limit for a stored value of a field in bytes, so that a damaged size does not exhaust memory."""
    return MAX_TEXT_BYTES if field.form == "text" else 4 * field.value_bytes + (1 << 16)


class StagedShard(ABC):
    """Base of the shard writers: a :class:`ShardWriter` except for what the format adds to its files.

    Args:
        scratch: the directory for temporary files.
        names: the final names of the shard's files.
        layout: the schema that batches must have.
        shard: which samples are expected.

    Raises:
        WriterError: a file cannot be created; none is left behind.
    """

    takes_sha256 = False
    """Whether the format's own index needs the SHA-256 of its files."""

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard) -> None:
        self._schema = layout.schema
        self._names = frozenset(layout.schema.names)
        self._expected = [(field.name, field.shape, field.numpy_dtype) for field in layout.schema]
        self._shard = shard
        self._next = shard.start
        self._files: list[StagedFile] = []
        try:
            for name in names:
                self._files.append(StagedFile(scratch, name, sha256=self.takes_sha256))
            self._begin()
        except WriterError:
            self.abort()
            raise

    def append(self, batch: Batch) -> None:
        """Write the next samples; see :class:`ShardWriter`."""
        count = len(batch)
        assert batch.start == self._next, f"sample {self._next} is due, not {batch.start}"
        assert batch.start + count <= self._shard.stop, f"the shard ends before sample {self._shard.stop}"
        assert batch.columns.keys() == self._names, (list(batch.columns), self._schema.names)
        for name, shape, dtype in self._expected:
            column = batch.columns[name]
            assert len(column) == count, (name, len(column), count)
            if isinstance(column, Ragged):
                assert self._schema[name].form == "text", name
                continue
            assert column.shape[1:] == shape, (name, column.shape, shape)
            assert column.dtype == dtype, (name, column.dtype, dtype)
        self._append(batch)
        self._next += count

    def commit(self) -> list[WrittenFile]:
        """Finish and fsync the files; see :class:`ShardWriter`."""
        if self._next != self._shard.stop:
            raise WriterError(
                f"{self._files[0].name}: {self._next - self._shard.start:,} of "
                f"{self._shard.stop - self._shard.start:,} samples were written; run the same command again"
            )
        self._finish()
        return [file.finish() for file in self._files]

    def abort(self) -> None:
        """Close and remove the temporary files. Never raises."""
        for file in self._files:
            file.discard()

    def _begin(self) -> None:  # noqa: B027 - not every format has a head
        """Write what the format puts at the start."""

    @abstractmethod
    def _append(self, batch: Batch) -> None:
        """Write samples that were checked to be the next ones and to have the fields of the schema."""

    def _finish(self) -> None:  # noqa: B027 - not every format has a tail
        """Write what the format puts at the end."""


class OpenShard(ABC):
    """Base of the shard readers: a :class:`ShardReader` except for finding and parsing a sample.

    Raises:
        VerifyError: a file cannot be opened, or is not one of the format's.
    """

    what: str
    """The shard's name in messages, such as ``a Parquet shard``."""

    def __init__(self, files: Sequence[ShardFile], layout: Layout, shard: Shard, codec: Codec) -> None:
        self._schema, self._shard, self._codec = layout.schema, shard, codec
        self._name = files[0].name
        self._files: list[BinaryIO] = []
        try:
            with self._errors():
                for file in files:
                    self._name = file.name
                    self._files.append(file.open())
                self._name = files[0].name
                self._begin()
        except VerifyError:
            self.close()
            raise

    def read(self, indices: Sequence[int]) -> Iterator[Record]:
        """Yield the samples with these dataset indices; see :class:`ShardReader`."""
        for index in sorted(indices):
            if not self._shard.start <= index < self._shard.stop:
                raise missing(self._name, index)
            with self._errors():
                record = self._record(index - self._shard.start)
            if record.index != index:
                raise missing(self._name, index)
            yield record

    def close(self) -> None:
        """Close the files. Never raises."""
        for file in self._files:
            with contextlib.suppress(Exception):
                file.close()

    def _begin(self) -> None:  # noqa: B027 - not every format has a head
        """Read what the format puts at the start. A shard that is not one of the format's is a ValueError."""

    @abstractmethod
    def _record(self, row: int) -> Record:
        """Return a sample of the shard. A damaged one is an OSError, ValueError, LookupError or TypeError."""

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise VerifyError(f"{self._name}: cannot be read as {self.what} ({error})") from error


def exactly(file: BinaryIO, size: int) -> bytes:
    """Return the next ``size`` bytes of a file; raises ValueError if it ends before."""
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{size:,} bytes are due at byte {file.tell() - len(data):,}, and {len(data):,} are there")
    return data


def numbered(layout: Layout, number: int) -> str:
    """Return ``data/train-00003-of-00010``, Hugging Face's name of shard 3 of 10, without extension."""
    width = max(5, len(str(layout.shards)))  # one width for all shards, so that sorted names are in order
    return f"data/train-{number:0{width}d}-of-{layout.shards:0{width}d}"


def missing(name: str, index: int) -> VerifyError:
    """Return the error for a sample that is missing from its shard."""
    return VerifyError(
        f"{name}: sample {index} is not in it; run `gen-engine verify` on the dataset, or sample it again"
    )
