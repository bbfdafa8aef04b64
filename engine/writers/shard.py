"""What the writers share: files that stand or fall together, and samples that come in order and all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import VerifyError, WriterError
from gen_engine.engine.sample.schema import Batch, Layout
from gen_engine.engine.sample.shard import FinishedShard, Shard, WrittenFile
from gen_engine.engine.writers.staged import StagedFile


class ShardsAlone:
    """Base of the formats whose shards need no file beside them and may have any size."""

    default_shard_bytes: int | None = None
    most_shard_bytes: int | None = None

    def index_head(self, layout: Layout, codec: Codec) -> Mapping[str, Any] | None:
        """Return None: there is no index."""
        return None

    def index(self, head: Mapping[str, Any], shards: Iterable[FinishedShard]) -> Mapping[str, bytes]:
        """Return nothing."""
        return {}


class StagedShard(ABC):
    """Base of the shard writers: a :class:`ShardWriter` but for what the format adds to its files.

    Args:
        scratch: the directory for temporary files.
        names: the final names of the shard's files.
        layout: what the batches must look like.
        shard: which samples are expected.

    Raises:
        WriterError: a file cannot be created; none is left behind.
    """

    takes_sha256 = False
    """Whether the format's own index wants the SHA-256 of its files."""

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard) -> None:
        self._layout = layout
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
        count = len(batch.pixels_BHWC)
        assert batch.start == self._next, f"sample {self._next} is due, not {batch.start}"
        assert batch.start + count <= self._shard.stop, f"the shard ends before sample {self._shard.stop}"
        assert batch.pixels_BHWC.shape[1:] == self._layout.shape, batch.pixels_BHWC.shape
        assert batch.pixels_BHWC.dtype == self._layout.dtype, batch.pixels_BHWC.dtype
        if self._layout.class_names is None:
            assert batch.labels_B is None, "labels for a dataset without labels"
        else:
            assert batch.labels_B is not None, "no labels for a dataset with labels"
            assert len(batch.labels_B) == count, (len(batch.labels_B), count)
        if self._layout.origin is None:
            assert batch.latents_BZ is None, "latents for a dataset without them"
        else:
            assert batch.latents_BZ is not None, "no latents for a dataset with them"
            assert batch.latents_BZ.shape == (count, self._layout.origin.latent_dim), batch.latents_BZ.shape
            assert batch.latents_BZ.dtype == np.float32, batch.latents_BZ.dtype
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
        """Write samples that were found to be the next ones, and of the right shape."""

    def _finish(self) -> None:  # noqa: B027 - not every format has a tail
        """Write what the format puts at the end."""


def numbered(layout: Layout, number: int) -> str:
    """Return ``data/train-00003-of-00010``, the name of shard 3 of 10 as Hugging Face knows it, without an ending."""
    width = max(5, len(str(layout.shards)))  # one width for all shards, so that sorted names are in order
    return f"data/train-{number:0{width}d}-of-{layout.shards:0{width}d}"


def missing(path: Path, index: int) -> VerifyError:
    """Return the error for a sample that should be in a shard and is not."""
    return VerifyError(
        f"{path}: sample {index} is not in it; run `gen-engine verify` on the dataset, or sample it again"
    )
