"""WebDataset shards: a tar in which the members of a sample follow each other and share a basename.

The format is POSIX ustar (IEEE Std 1003.1-1988, "pax" chapter): a member is a 512-byte header and its data, both in
whole blocks of 512 bytes. From one header to the next only the name, the size and the checksum change, so a header is
put together from prepared pieces; the standard library's tarfile spends more time on it than on everything else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import RawCodec
from gen_engine.engine.errors import VerifyError
from gen_engine.engine.writers.contract import Batch, Layout, Shard, StoredSample
from gen_engine.engine.writers.shard import ShardsAlone, StagedShard, missing

BLOCK = 512
END = bytes(2 * BLOCK)

# The fields of a header that never change, by what they follow. The name is 12 digits, a dot and the extension, in a
# field of 100 bytes; the owner is 0:0; the time is 0, so that equal samples make equal shards.
MODE_AND_OWNER = b"0000644\0" + b"0000000\0" * 2
AFTER_SIZE = b"\0" + b"00000000000\0"
AFTER_CHECKSUM = b"\0 " + b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12)


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
            with path.open("rb") as file:
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
        self._pictures = _Headers(codec.extension)
        self._labels = _Headers("cls")
        self._latents, self._origins = _Headers("latents.npy"), _Headers("json")

    def _append(self, batch: Batch) -> None:
        pictures = self._codec.encode(batch.pixels_BHWC)
        labels = None if batch.labels_B is None else batch.labels_B.tolist()
        latents = None if batch.latents_BZ is None else RawCodec().encode(batch.latents_BZ)
        pieces: list[bytes] = []
        for i, picture in enumerate(pictures):
            digits = b"%012d" % (batch.start + i)
            pieces += (self._pictures.header(digits, len(picture)), picture, bytes(-len(picture) % BLOCK))
            if labels is not None:
                text = b"%d" % labels[i]
                pieces += (self._labels.header(digits, len(text)), text.ljust(BLOCK, b"\0"))
            if latents is not None:
                z, text = latents[i], self._origin(batch.start + i, None if labels is None else labels[i])
                pieces += (self._latents.header(digits, len(z)), z, bytes(-len(z) % BLOCK))
                pieces += (self._origins.header(digits, len(text)), text.ljust(BLOCK, b"\0"))
        self._files[0].write(b"".join(pieces))

    def _finish(self) -> None:
        self._files[0].write(END)

    def _origin(self, index: int, label: int | None) -> bytes:
        assert self._layout.origin is not None
        known = {"index": index, "label": label, "seed": self._layout.origin.seed}
        return json.dumps({name: value for name, value in known.items() if value is not None}).encode()


class _Headers:
    """Makes the headers of members with one extension."""

    def __init__(self, extension: str) -> None:
        self._after_digits = b".%s" % extension.encode() + bytes(100 - 13 - len(extension)) + MODE_AND_OWNER
        # The checksum is the sum of the header's bytes with the 8 of its own field as spaces.
        self._fixed_sum = sum(self._after_digits + AFTER_SIZE + AFTER_CHECKSUM[2:] + b" " * 8)

    def header(self, digits: bytes, size: int) -> bytes:
        octal = b"%011o" % size
        checksum = self._fixed_sum + sum(digits) + sum(octal)
        return b"".join((digits, self._after_digits, octal, AFTER_SIZE, b"%06o" % checksum, AFTER_CHECKSUM))


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
    z = None if latents is None else np.load(io.BytesIO(latents), allow_pickle=False).tobytes()
    (payload,) = members.values()
    return StoredSample(index, None if label is None else int(label), payload, seed, z)
