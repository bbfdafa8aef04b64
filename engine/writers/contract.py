"""The contract of output formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.sample.schema import Batch, Layout, Record
from gen_engine.engine.sample.shard import FinishedShard, Shard, WrittenFile


class ShardWriter(Protocol):
    """Writes one shard into temporary files. Used by one thread."""

    def append(self, batch: Batch) -> None:
        """Write the next samples. The arrays belong to the caller and may change after the call.

        Raises:
            WriterError: a write failed; the shard is lost and must be aborted.
        """
        ...

    def commit(self) -> list[WrittenFile]:
        """Finish the files and fsync them. The caller renames them into place.

        Raises:
            WriterError: a write failed, or samples are missing.
        """
        ...

    def abort(self) -> None:
        """Close and remove the temporary files. Never raises, and may follow a failed commit."""
        ...


class ShardFile(NamedTuple):
    """A file of a finished shard, on this machine or elsewhere."""

    name: str
    """Its name in messages."""

    open: Callable[[], BinaryIO]
    """Opens it for reading: a seekable file, which fetches only the ranges that are read."""


class ShardReader(Protocol):
    """Reads samples of one shard. Used by one thread."""

    def read(self, indices: Sequence[int]) -> Iterator[Record]:
        """Yield the samples with these dataset indices, in ascending order, with all their fields.

        Raises:
            VerifyError: an index is missing, or a file is not a valid one of the format.
        """
        ...

    def close(self) -> None:
        """Close the files. Never raises."""
        ...


class Format(Protocol):
    """An output format: names its files, writes and reads shards. Stateless."""

    @property
    def name(self) -> str:
        """Its name for ``--format``."""
        ...

    @property
    def identity(self) -> str:
        """Name, version and the library that makes the bytes: equal identities of format and codec give equal files."""
        ...

    @property
    def holds_arrays(self) -> bool:
        """True if all values are stored as arrays, and no codec is used."""
        ...

    @property
    def default_shard_bytes(self) -> int | None:
        """Default size of a shard in bytes; None if the default is a number of samples."""
        ...

    @property
    def max_shard_bytes(self) -> int | None:
        """Exclusive limit of a shard's size in bytes; None for no limit."""
        ...

    @property
    def lists_sha256(self) -> bool:
        """True if the format's own index has the SHA-256 of its files, which their records then contain too."""
        ...

    def check_available(self) -> None:
        """Raise WriterUnavailable with what to install if a library is missing."""
        ...

    def check(self, layout: Layout) -> None:
        """Raise RequestError if a field of the schema cannot be stored."""
        ...

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the names, relative to the dataset directory, of the files of shard ``number``."""
        ...

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> ShardWriter:
        """Start a shard whose temporary files are made in the directory ``scratch``."""
        ...

    def open_shard(self, files: Sequence[ShardFile], layout: Layout, shard: Shard, codec: Codec) -> ShardReader:
        """Open a finished shard for reading; ``files`` are in the order of :meth:`file_names`.

        Raises:
            VerifyError: a file is not a valid one of the format.
        """
        ...

    def index_head(self, layout: Layout, codec: Codec) -> Mapping[str, Any] | None:
        """Return the JSON that :meth:`index` needs besides the shards; None for a format without an index."""
        ...

    def index(self, head: Mapping[str, Any], shards: Iterable[FinishedShard]) -> Mapping[str, bytes]:
        """Return the files that list all shards, by name relative to the dataset directory.

        They are written after the last shard, from the records of all shards, and before the manifest.
        """
        ...

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return the format's part of the dataset card's YAML head: ``configs`` for Hugging Face, or nothing."""
        ...

    def example(self, layout: Layout) -> str:
        """Return Python code for the card that reads the dataset, with ``PATH`` for its directory."""
        ...
