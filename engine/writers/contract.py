"""What every output format promises.

Shape suffixes: B samples, H height, W width, C channels, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.modalities import MODALITIES, Pixels


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What every sample is stored with if its origin was asked for: the seed, and the latents that it was made from."""

    seed: int
    latent_dim: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What all shards of a dataset have in common."""

    shape: tuple[int, ...]
    """Of a sample, channels last: height, width, channels of an image."""

    class_names: tuple[str, ...] | None
    """Class names in order of their ids; None for a dataset without labels."""

    shards: int
    """How many shards the dataset has; some formats state it in every file's name."""

    modality: str = "image"
    """One of :data:`gen_engine.engine.modalities.MODALITIES`."""

    origin: Origin | None = None
    """None for samples that are stored with their label and index alone."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values, little-endian: uint8 for images, float32 for others."""
        return np.dtype(MODALITIES[self.modality].dtype).newbyteorder("<")

    @property
    def noun(self) -> str:
        """What a sample is called in names of files and columns: ``image``, or ``sample`` for other modalities."""
        return "image" if self.modality == "image" else "sample"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The samples ``[start, stop)``, which are written together. Knows nothing of the format."""

    number: int
    start: int
    stop: int


class Batch(NamedTuple):
    """Consecutive samples of a shard."""

    start: int
    """Index of the first one in the dataset."""

    pixels_BHWC: Pixels
    """uint8 [B, H, W, C], or float32 [B, …] of another modality."""

    labels_B: NDArray[np.int64] | None

    latents_BZ: NDArray[np.float32] | None = None
    """Where the layout has an origin."""


class WrittenFile(NamedTuple):
    """A file of a finished shard, still under its temporary name, its bytes on the disk."""

    name: str
    """Where it belongs, relative to the dataset directory: ``data/train-00000-of-00010.parquet``."""

    temporary: Path
    bytes: int

    blake3: str
    """In hexadecimal, as of all files of a dataset."""

    sha256: str | None = None
    """In hexadecimal, for formats whose own index wants it."""


@dataclass(frozen=True)
class StoredSample:
    """One sample as its shard holds it."""

    index: int
    label: int | None
    payload: bytes
    """Encoded by the dataset's codec; C-order bytes of the values for formats that hold arrays."""

    seed: int | None = None
    latents: bytes | None = None
    """Little-endian float32, of datasets whose samples are stored with their origin."""


class FinishedShard(NamedTuple):
    """A shard whose files are in place, for formats that list all of them in a file of their own."""

    samples: int
    files: Sequence[Mapping[str, Any]]
    """``{"name": …, "bytes": …, "blake3": …}`` each, and ``"sha256"`` where the writer took it.

    The name is relative to the dataset directory.
    """


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
