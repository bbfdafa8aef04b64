"""What every output format promises.

Shape suffixes: B samples, H height, W width, C channels, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.sample.schema import Batch, Layout, StoredSample
from gen_engine.engine.sample.shard import FinishedShard, Shard, WrittenFile


class ShardWriter(Protocol):
    """Writes one shard into temporary files. Used by one thread."""

    def append(self, batch: Batch) -> None:
        """Write the next samples. The arrays are the caller's and may change after the call.

        Raises:
            WriterError: a write failed; the shard is lost and :meth:`abort` is due.
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


class Format(Protocol):
    """An output format: names its files, opens writers, reads its own shards back. Stateless."""

    @property
    def name(self) -> str:
        """What ``--format`` calls it."""
        ...

    @property
    def identity(self) -> str:
        """Name, version and the library that makes the bytes: equal identities, of the codec too, give equal files."""
        ...

    @property
    def holds_arrays(self) -> bool:
        """True if samples are stored as they are, and no codec has a place."""
        ...

    @property
    def default_shard_bytes(self) -> int | None:
        """The size of a shard if none is asked for; None for a number of samples instead."""
        ...

    @property
    def most_shard_bytes(self) -> int | None:
        """The size that a shard cannot have, nor anything above it; None if there is none."""
        ...

    def check_available(self) -> None:
        """Raise WriterUnavailable, saying what to install, if a library is missing."""
        ...

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the names, relative to the dataset directory, of the files of shard ``number``."""
        ...

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> ShardWriter:
        """Start a shard whose temporary files stand in the directory ``scratch``."""
        ...

    def read(self, files: Sequence[Path], indices: Sequence[int]) -> Iterator[StoredSample]:
        """Yield the samples with these dataset indices, in ascending order, from one shard's files.

        Raises:
            VerifyError: one of the indices is not there.
        """
        ...

    def index_head(self, layout: Layout, codec: Codec) -> Mapping[str, Any] | None:
        """Return, as JSON, what :meth:`index` needs besides the shards; None for a format without an index."""
        ...

    def index(self, head: Mapping[str, Any], shards: Iterable[FinishedShard]) -> Mapping[str, bytes]:
        """Return the files that list all shards, by name relative to the dataset directory.

        They are written when the last shard is finished, from the records of all, and before the manifest.
        """
        ...

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return what the dataset card's YAML head says of this format: ``configs`` for Hugging Face, or nothing."""
        ...

    def example(self, layout: Layout) -> str:
        """Return Python code for the card that reads the dataset, with ``PATH`` for its directory."""
        ...
