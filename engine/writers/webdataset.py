"""WebDataset shards: a tar in which the members of a sample follow each other and share a basename.

The format is POSIX ustar (IEEE Std 1003.1-1988, "pax" chapter): a member is a 512-byte header and its data, both in
whole blocks of 512 bytes. From one header to the next only the name, the size and the checksum change, so a header is
put together from prepared pieces; the standard library's tarfile spends more time on it than on everything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.base.npy import parse_npy
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import RawCodec
from gen_engine.engine.errors import VerifyError
from gen_engine.engine.sample.schema import Batch, Layout, StoredSample
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.shard import ShardsAlone, StagedShard, missing

BLOCK = 512
END = bytes(2 * BLOCK)
PADDING = [bytes(size) for size in range(BLOCK)]

# The fields of a header that never change, by what they follow. The name is 12 digits, a dot and the extension, in a
# field of 100 bytes; the owner is 0:0; the time is 0, so that equal samples make equal shards.
MODE_AND_OWNER = b"0000644\0" + b"0000000\0" * 2
AFTER_SIZE = b"\0" + b"00000000000\0"
AFTER_CHECKSUM = b"\0 " + b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12)

NAME, SIZE, CHECKSUM = slice(0, 12), slice(124, 135), slice(148, 154)
"""Where in a header the fields lie that change: the digits of the name, the size, and the checksum."""


class WebDatasetFormat(ShardsAlone):
    """``data/train-000000.tar`` with ``000000000123.png`` and, in datasets with labels, ``000000000123.cls``.

    With the codec raw, the only one for samples that are no images, the member is ``000000000123.npy``. Their origin,
    where it is stored, is ``000000000123.latents.npy`` and the seed in ``000000000123.json``.
    """

    name = "webdataset"
    identity = "webdataset/1"
    holds_arrays = False

    def check_available(self) -> None:
        """Do nothing: the writer is this file."""

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the shard's one name."""
        width = max(6, len(str(layout.shards - 1)))
        return [f"data/train-{number:0{width}d}.tar"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> WebDatasetWriter:
        """Start a shard."""
        return WebDatasetWriter(scratch, self.file_names(layout, shard.number), layout, shard, codec)

    def read(self, files: Sequence[Path], indices: Sequence[int]) -> Iterator[StoredSample]:
        """Yield samples; reads no further than the last one that was asked for."""
        (path,) = files
        wanted = set(indices)
        try:
            with open_regular(path) as file:
                for index, group in groupby(_members(file), key=lambda member: member.sample):
                    if not wanted:
                        return
                    if index in wanted:
                        wanted.remove(index)
                        yield _sample(index, {member.extension: file.read(member.size) for member in group})
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise VerifyError(f"{path}: cannot be read as a WebDataset shard ({error})") from error
        if wanted:
            raise missing(path, min(wanted))

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return where Hugging Face finds the shards."""
        return {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.tar"}]}]}

    def example(self, layout: Layout) -> str:
        """Return code that iterates over all shards."""
        width = len(Path(self.file_names(layout, 0)[0]).stem.removeprefix("train-"))
        label = "" if layout.class_names is None else ', sample["cls"]'
        how, shown = ('"pil"', "") if layout.modality == "image" else ("", ', sample["npy"].shape')
        lines = [
            "import webdataset",
            "",
            f'shards = "PATH/data/train-{{{0:0{width}d}..{layout.shards - 1:0{width}d}}}.tar"',
            f"for sample in webdataset.WebDataset(shards, shardshuffle=False).decode({how}):",
            f'    print(sample["__key__"]{shown}{label})',
        ]
        return "\n".join(lines)


class WebDatasetWriter(StagedShard):
    """Writes a batch's headers, samples and labels in one go."""

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard, codec: Codec) -> None:
        super().__init__(scratch, names, layout, shard)
        self._codec = codec
        self._pictures, self._labels = _Headers(codec.extension), _Headers("cls")
        self._latents, self._origins = _Headers("latents.npy"), _Headers("json")
        texts = [b"%d" % label for label in range(len(layout.class_names or ()))]
        self._text_sizes = np.array([len(text) for text in texts], np.int64)
        self._texts = np.array([text.ljust(BLOCK, b"\0") for text in texts], f"S{BLOCK}")

    def _append(self, batch: Batch) -> None:
        names = _decimal(batch.start, len(batch.pixels_BHWC))
        pieces = self._pictures.members(names, self._codec.encode(batch.pixels_BHWC))
        labels_B = batch.labels_B
        if labels_B is not None:
            heads = self._labels.blocks(names, self._text_sizes[labels_B])
            texts = self._texts[labels_B].view(np.uint8).reshape(heads.shape)
            pieces.append(_cut(np.hstack((heads, texts))))
        if batch.latents_BZ is not None:
            pieces += self._latents.members(names, RawCodec().encode(batch.latents_BZ))
            labels = [None] * len(batch.latents_BZ) if labels_B is None else labels_B.tolist()
            origins = [self._origin(index, label) for index, label in enumerate(labels, batch.start)]
            pieces += self._origins.members(names, origins)
        self._files[0].write(b"".join(chain.from_iterable(zip(*pieces, strict=True))))

    def _finish(self) -> None:
        self._files[0].write(END)

    def _origin(self, index: int, label: int | None) -> bytes:
        assert self._layout.origin is not None
        known = {"index": index, "label": label, "seed": self._layout.origin.seed}
        return json.dumps({name: value for name, value in known.items() if value is not None}).encode()


class _Headers:
    """Makes the headers of members with one extension, a batch at a time."""

    def __init__(self, extension: str) -> None:
        name = b"000000000000.%s" % extension.encode()
        block = name.ljust(100, b"\0") + MODE_AND_OWNER + b"00000000000" + AFTER_SIZE + b"000000" + AFTER_CHECKSUM
        self._block = np.frombuffer(block, np.uint8)
        self._plain_sum = sum(block) - sum(block[148:156]) + 8 * ord(" ")

    def blocks(self, names: NDArray[np.uint8], size_B: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the headers, uint8 [B, 512], of members with such :func:`_decimal` names and so many bytes."""
        blocks = np.empty((len(size_B), BLOCK), np.uint8)
        blocks[:] = self._block
        octal = size_B[:, None] >> _EIGHTS_11 & 7
        blocks[:, NAME] += names
        blocks[:, SIZE] += octal.astype(np.uint8)
        # The sum of the header's bytes, with those of its own field as spaces.
        checksum_B = self._plain_sum + names.sum(axis=1, dtype=np.int64) + octal.sum(axis=1)
        blocks[:, CHECKSUM] += (checksum_B[:, None] >> _EIGHTS_6 & 7).astype(np.uint8)
        return blocks

    def members(self, names: NDArray[np.uint8], files: list[bytes]) -> list[Sequence[bytes]]:
        """Return the pieces of the files' members: all headers, the files, and what fills their last blocks."""
        sizes = list(map(len, files))
        heads = _cut(self.blocks(names, np.array(sizes, np.int64)))
        return [heads, files, [PADDING[-size % BLOCK] for size in sizes]]


def _decimal(start: int, count: int) -> NDArray[np.uint8]:
    """Return the twelve digits of each index from ``start`` on, as numbers: uint8 [count, 12]."""
    return (np.arange(start, start + count)[:, None] // _TENS % 10).astype(np.uint8)


_TENS = 10 ** np.arange(11, -1, -1)
_EIGHTS_11, _EIGHTS_6 = 3 * np.arange(10, -1, -1), 3 * np.arange(5, -1, -1)
"""What a number is divided by, or shifted, to give its digits."""


def _cut(blocks: NDArray[np.uint8]) -> list[bytes]:
    """Return each row as bytes."""
    data, size = blocks.tobytes(), blocks.shape[1]
    return [data[at : at + size] for at in range(0, len(data), size)]


class _Member(NamedTuple):
    sample: int
    extension: str
    size: int


def _members(file: BinaryIO) -> Iterator[_Member]:
    """Yield the members, each with the file at its data, which may be read or left.

    A file that was cut anywhere lacks a header where one is due, since data is followed by another or by the end.
    """
    position = 0
    while True:
        file.seek(position)
        header = file.read(BLOCK)
        if len(header) < BLOCK:
            raise ValueError(f"no header at byte {position:,}")
        if not any(header):
            return
        digits, extension = header[:100].rstrip(b"\0").decode("ascii").split(".", 1)
        size = int(header[124:135], 8)
        yield _Member(int(digits), extension, size)
        position += BLOCK + size + -size % BLOCK


def _sample(index: int, members: dict[str, bytes]) -> StoredSample:
    label = members.pop("cls", None)
    origin = members.pop("json", None)
    seed = None if origin is None else int(json.loads(origin)["seed"])
    latents = members.pop("latents.npy", None)
    z = None if latents is None else parse_npy(latents).tobytes()
    (payload,) = members.values()
    return StoredSample(index, None if label is None else int(label), payload, seed, z)
