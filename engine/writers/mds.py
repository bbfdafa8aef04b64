"""MDS shards and their index, as MosaicML Streaming reads them.

A shard is, all little-endian: the number of samples n (uint32), n + 1 offsets from the start of the file (uint32), the
columns as JSON, and the samples. A sample is the sizes (uint32) of its columns of variable size, and then all columns
in the order of their names. ``index.json`` lists the shards; a reader opens nothing that is not in it.

Source: ``streaming/base/format/mds`` of mosaicml-streaming 0.13, whose encodings the columns are named after.
Shape suffixes: B samples, H height, W width, C channels, Z latent dimensions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import RawCodec
from gen_engine.engine.errors import VerifyError, WriterError
from gen_engine.engine.sample.schema import Batch, Layout, StoredSample
from gen_engine.engine.sample.shard import FinishedShard, Shard
from gen_engine.engine.writers.shard import StagedShard, missing

OFFSETS_END = 2**32
"""Offsets are uint32."""


class MdsFormat:
    """``data/shard.00000.mds`` and ``data/index.json``, the local directory of a ``StreamingDataset`` being ``data``.

    The columns are ``image`` (``png``, ``jpeg`` or ``ndarray``; ``sample`` of other modalities), ``index`` and, in
    datasets with labels, ``label`` (both ``int64``). Their origin, where it is stored, is in ``latents`` (``ndarray``)
    and ``seed`` (``uint64``).
    """

    name = "mds"
    identity = "mds/2"
    holds_arrays = False
    most_shard_bytes: int | None = OFFSETS_END

    default_shard_bytes: int | None = 2**26
    """As the library's own writer: its readers fetch whole shards. A lane holds the one that it writes in memory."""

    def check_available(self) -> None:
        """Do nothing: the writer is this file."""

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the shard's one name."""
        width = max(5, len(str(layout.shards - 1)))
        return [f"data/shard.{number:0{width}d}.mds"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> MdsWriter:
        """Start a shard. The codec raw makes the column an array instead of a file a picture."""
        return MdsWriter(scratch, self.file_names(layout, shard.number), layout, shard, codec)

    def read(self, files: Sequence[Path], indices: Sequence[int]) -> Iterator[StoredSample]:
        """Yield samples; nothing is read but them."""
        (path,) = files
        try:
            with open_regular(path) as file:
                offsets, columns = _read_head(file)
                first = _read_sample(file, offsets, columns, 0)["index"]
                for index in sorted(indices):
                    if not first <= index < first + len(offsets) - 1:
                        raise missing(path, index)
                    yield _stored(_read_sample(file, offsets, columns, index - first))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise VerifyError(f"{path}: cannot be read as an MDS shard ({error})") from error

    def index_head(self, layout: Layout, codec: Codec) -> Mapping[str, Any] | None:
        """Return what a shard says of itself."""
        return _head(layout, codec)

    def index(self, head: Mapping[str, Any], shards: Iterable[FinishedShard]) -> Mapping[str, bytes]:
        """Return ``index.json``, with the SHA-256 of every shard."""
        listed = []
        for shard in shards:
            (file,) = shard.files
            name = file["name"].removeprefix("data/")
            data = {"basename": name, "bytes": file["bytes"], "hashes": {"sha256": file["sha256"]}}
            record = {**head, "raw_data": data, "samples": shard.samples, "zip_data": None}
            listed.append(json.dumps(record, sort_keys=True))  # one at a time: records of 100,000 shards take 200 MB
        return {"data/index.json": ('{"shards": [' + ", ".join(listed) + '], "version": 2}').encode()}

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return nothing: Hugging Face has no reader for MDS."""
        return {}

    def example(self, layout: Layout) -> str:
        """Return code that iterates over all shards."""
        label = "" if layout.class_names is None else ', sample["label"]'
        lines = [
            "from streaming import StreamingDataset",
            "",
            'for sample in StreamingDataset(local="PATH/data", shuffle=False, batch_size=1):',
            f'    print(sample["index"], sample["{layout.noun}"]{label})',
        ]
        return "\n".join(lines)


class MdsWriter(StagedShard):
    """Holds the samples of the shard until it is finished, since their offsets come first in the file."""

    takes_sha256 = True

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard, codec: Codec) -> None:
        self._codec = codec
        self._head = json.dumps(_head(layout, codec), sort_keys=True).encode()
        self._columns = _columns(layout, codec)
        self._row = np.dtype([(name, *kind) for name, (_, kind) in self._columns.items() if kind is not None])
        self._sizes: list[NDArray[np.int64]] = []
        self._bodies: list[bytes] = []
        self._bytes = 4 * (2 + shard.stop - shard.start) + len(self._head)
        super().__init__(scratch, names, layout, shard)

    def _append(self, batch: Batch) -> None:
        rows = self._rows(batch).tobytes()
        count, size = len(batch.pixels_BHWC), self._row.itemsize
        sizes = np.full(count, size)
        if self._row.names is not None and self._layout.noun not in self._row.names:
            pictures = self._codec.encode(batch.pixels_BHWC)
            lengths = np.array([len(picture) for picture in pictures], "<u4")
            sizes += 4 + lengths
            heads = lengths.tobytes()
            pieces: list[bytes] = []
            for i, picture in enumerate(pictures):
                pieces += (heads[4 * i : 4 * i + 4], picture, rows[size * i : size * (i + 1)])
            rows = b"".join(pieces)
        self._bytes += len(rows)
        if self._bytes >= OFFSETS_END:
            raise WriterError(
                f"{self._files[0].name}: it has {self._bytes:,} bytes or more, and an MDS shard has less than "
                f"{OFFSETS_END:,}; choose a smaller --shard-size or --shard-bytes, and another --out"
            )
        self._sizes.append(sizes)
        self._bodies.append(rows)

    def _finish(self) -> None:
        sizes = np.concatenate([np.zeros(1, np.int64), *self._sizes])
        offsets = np.cumsum(sizes) + 4 * (1 + len(sizes)) + len(self._head)
        self._files[0].write(np.array([len(sizes) - 1, *offsets], "<u4").tobytes() + self._head)
        for body in self._bodies:
            self._files[0].write(body)

    def _rows(self, batch: Batch) -> NDArray[np.void]:
        """Return the columns of fixed size of each sample, as they lie in the shard."""
        rows = np.empty(len(batch.pixels_BHWC), self._row)
        values: dict[str, Any] = {
            self._layout.noun: batch.pixels_BHWC,
            "index": np.arange(batch.start, batch.start + len(rows)),
            "label": batch.labels_B,
            "latents": batch.latents_BZ,
            "seed": None if self._layout.origin is None else self._layout.origin.seed,
        }
        for name in self._row.names or ():
            rows[name] = values[name]
        return rows


def _columns(layout: Layout, codec: Codec) -> dict[str, tuple[str, tuple[str, tuple[int, ...]] | None]]:
    """Return, by name in order, each column's encoding and the dtype and shape of its value; None for a file."""
    columns: dict[str, tuple[str, tuple[str, tuple[int, ...]] | None]] = {"index": ("int64", ("<i8", ()))}
    columns[layout.noun] = ("jpeg" if codec.extension == "jpg" else codec.extension, None)
    if codec.name == RawCodec.name:
        columns[layout.noun] = (_array(layout.dtype.name, layout.shape), (layout.dtype.str, layout.shape))
    if layout.class_names is not None:
        columns["label"] = ("int64", ("<i8", ()))
    if layout.origin is not None:
        shape = (layout.origin.latent_dim,)
        columns["latents"] = (_array("float32", shape), ("<f4", shape))
        columns["seed"] = ("uint64", ("<u8", ()))
    return dict(sorted(columns.items()))


def _array(dtype: str, shape: tuple[int, ...]) -> str:
    return f"ndarray:{dtype}:{','.join(map(str, shape))}"


def _head(layout: Layout, codec: Codec) -> dict[str, Any]:
    """Return what a shard says of itself, and the index of each shard."""
    columns = _columns(layout, codec)
    kinds = [kind for _, kind in columns.values()]
    return {
        "column_encodings": [encoding for encoding, _ in columns.values()],
        "column_names": list(columns),
        "column_sizes": [None if kind is None else np.dtype(kind[0]).itemsize * math.prod(kind[1]) for kind in kinds],
        "compression": None,
        "format": "mds",
        "hashes": ["sha256"],
        "size_limit": None,
        "version": 2,
    }


def _read_head(file: BinaryIO) -> tuple[NDArray[np.int64], Mapping[str, Any]]:
    """Return the offsets and the columns' description."""
    count = int(np.frombuffer(_exactly(file, 4), "<u4")[0])
    offsets = np.frombuffer(_exactly(file, 4 * (count + 1)), "<u4").astype(np.int64)
    return offsets, json.loads(_exactly(file, int(offsets[0]) - file.tell()))


def _read_sample(file: BinaryIO, offsets: NDArray[np.int64], columns: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Return a sample's columns: integers, encoded files, and arrays."""
    file.seek(int(offsets[row]))
    rest = memoryview(_exactly(file, int(offsets[row + 1] - offsets[row])))
    variable = columns["column_sizes"].count(None)
    lengths = iter(np.frombuffer(rest[: 4 * variable], "<u4").tolist())
    rest = rest[4 * variable :]
    sample: dict[str, Any] = {}
    for name, encoding, size in zip(
        *(columns[f"column_{what}"] for what in ("names", "encodings", "sizes")), strict=True
    ):
        length = next(lengths) if size is None else size
        value, rest = rest[:length], rest[length:]
        kind, *array = encoding.split(":")
        if kind == "ndarray":
            dtype, shape = array
            sample[name] = np.frombuffer(value, np.dtype(dtype).newbyteorder("<")).reshape(
                [int(n) for n in shape.split(",")]
            )
        else:
            sample[name] = value.tobytes() if size is None else int.from_bytes(value, "little", signed=kind == "int64")
    return sample


def _stored(sample: Mapping[str, Any]) -> StoredSample:
    payload = sample["image"] if "image" in sample else sample["sample"]
    if isinstance(payload, np.ndarray):
        (payload,) = RawCodec().encode(payload[None])
    latents = sample["latents"].tobytes() if "latents" in sample else None
    return StoredSample(sample["index"], sample.get("label"), payload, sample.get("seed"), latents)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(max(size, 0))
    if len(data) != size:
        raise ValueError(f"{size} bytes are due at byte {file.tell() - len(data):,}, and {len(data)} are there")
    return data
