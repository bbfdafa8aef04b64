"""WebDataset shards: a tar in which the members of a sample follow each other and share a basename.

The format is POSIX ustar (IEEE Std 1003.1-1988, "pax" chapter): a member is a 512-byte header and its data, both in
whole blocks of 512 bytes. Only the name, the size and the checksum change from header to header, so headers are
assembled from precomputed pieces; the standard library's tarfile would spend more time on them than all else takes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import RawCodec
from gen_engine.engine.native import core
from gen_engine.engine.native.contract import RecordColumn
from gen_engine.engine.sample.schema import Batch, Column, Field, Layout, Ragged, Record, Schema
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.contract import ShardFile
from gen_engine.engine.writers.shard import (
    OpenShard,
    ShardsAlone,
    StagedShard,
    exactly,
    is_encoded,
    max_stored_bytes,
)

BLOCK = 512
END = bytes(2 * BLOCK)
PADDING = [bytes(size) for size in range(BLOCK)]

# The fields of a header that never change, by what they follow. The name is 12 digits, a dot and the extension, in a
# field of 100 bytes; the owner is 0:0; the time is 0, so that equal samples make equal shards.
MODE_AND_OWNER = b"0000644\0" + b"0000000\0" * 2
AFTER_SIZE = b"\0" + b"00000000000\0"
AFTER_CHECKSUM = b"\0 " + b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12)

NAME, SIZE, CHECKSUM = slice(0, 12), slice(124, 135), slice(148, 154)
"""Positions in a header of the fields that change: the digits of the name, the size, and the checksum."""


class WebDatasetFormat(ShardsAlone):
    """``data/train-000000.tar`` with ``000000000123.png`` and, in datasets with labels, ``000000000123.cls``.

    A field that the codec does not encode is an array, ``000000000123.npy``. If the generator makes several fields, the
    members are named after them: ``000000000123.mask.png``. Latents are ``000000000123.latents.npy``; numbers and text
    of a sample share ``000000000123.json``.
    """

    name = "webdataset"
    identity = "webdataset/1"
    holds_arrays = False

    def check_available(self) -> None:
        """Do nothing: the format needs no library."""

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the name of the shard's only file."""
        width = max(6, len(str(layout.shards - 1)))
        return [f"data/train-{number:0{width}d}.tar"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> WebDatasetWriter:
        """Start a shard."""
        return WebDatasetWriter(scratch, self.file_names(layout, shard.number), layout, shard, codec)

    def open_shard(self, files: Sequence[ShardFile], layout: Layout, shard: Shard, codec: Codec) -> WebDatasetReader:
        """Open a shard."""
        return WebDatasetReader(files, layout, shard, codec)

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return the pattern by which Hugging Face finds the shards."""
        return {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.tar"}]}]}

    def example(self, layout: Layout) -> str:
        """Return code that iterates over all shards."""
        width = len(Path(self.file_names(layout, 0)[0]).stem.removeprefix("train-"))
        schema = layout.schema
        label = "" if schema.class_names is None else ', sample["cls"]'
        how, shown = "", ", sorted(sample)"
        if any(field.kind == "image" for field in schema.outputs):
            how = "" if any(field.dtype == "uint16" for field in schema.outputs) else '"pil"'
        if schema.sole_output is not None and schema.sole_output.form != "scalar":
            shown = "" if how else ', sample["npy"].shape'
        if any(field.kind == "image" and field.dtype == "uint16" for field in schema.outputs):
            shown = ", sorted(sample)"  # decoders clip 16 bits to 8: Pillow or gen_engine's open_dataset reads them
        lines = [
            "import webdataset",
            "",
            f'shards = "PATH/data/train-{{{0:0{width}d}..{layout.shards - 1:0{width}d}}}.tar"',
            f"for sample in webdataset.WebDataset(shards, shardshuffle=False).decode({how}):",
            f'    print(sample["__key__"]{shown}{label})',
        ]
        return "\n".join(lines)


class WebDatasetWriter(StagedShard):
    """Writes a batch's headers, values and labels in one go."""

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard, codec: Codec) -> None:
        super().__init__(scratch, names, layout, shard)
        members = _members_of(layout.schema, codec)
        extensions = {field.name: extension for field, extension in members.files}
        self._members: list[tuple[_Headers, Callable[[Batch], Column]]] = []
        for field in layout.schema:
            if field.kind == "label":
                self._members.append((_Headers("cls"), partial(_column, field.name)))
            elif field.name in extensions:
                encode = codec.encode if is_encoded(field, codec) else _RAW.encode
                self._members.append((_Headers(extensions[field.name]), partial(_files, field.name, encode)))
        if members.in_json:
            self._members.append((_Headers("json"), partial(_json_files, members.in_json)))

    def _append(self, batch: Batch) -> None:
        compiled = core()
        members = [(headers, values(batch)) for headers, values in self._members]
        if compiled is not None:
            columns = [(headers.block, _record_column(column)) for headers, column in members]
            self._files[0].write(compiled.tar_records(batch.start, len(batch), columns))
            return
        names = _decimal(batch.start, len(batch))
        pieces = [piece for headers, column in members for piece in headers.members(names, _texts(column))]
        self._files[0].write(b"".join(chain.from_iterable(zip(*pieces, strict=True))))

    def _finish(self) -> None:
        self._files[0].write(END)


_RAW = RawCodec()


def _column(name: str, batch: Batch) -> Column:
    return batch.columns[name]


def _files(name: str, encode: Callable[[Any], Ragged], batch: Batch) -> Ragged:
    return encode(batch.columns[name])


def _json_files(fields: Sequence[Field], batch: Batch) -> Ragged:
    rows = zip(*(_plain(field, batch.columns[field.name]) for field in fields), strict=True)
    names = [field.name for field in fields]
    return Ragged.of_pieces([json.dumps(dict(zip(names, row, strict=True))).encode() for row in rows])


def _record_column(column: Column) -> RecordColumn:
    """Return files, or numbers that become text, as the compiled core takes them."""
    if isinstance(column, Ragged):
        return ("ragged", column.values, column.offsets)
    return ("decimal", np.ascontiguousarray(column, np.int64))


def _texts(column: Column) -> list[bytes]:
    """Return the bytes of files, or of numbers as text."""
    return column.pieces() if isinstance(column, Ragged) else [b"%d" % number for number in column.tolist()]


class _Members(NamedTuple):
    """The members of a sample besides its label."""

    files: list[tuple[Field, str]]
    """Fields that have a member of their own, and the extension of its name."""

    in_json: list[Field]
    """The fields in the JSON member; empty if there is none."""

    @property
    def extensions(self) -> dict[str, Field]:
        """Return the fields by their extension."""
        return {extension: field for field, extension in self.files}


def _members_of(schema: Schema, codec: Codec) -> _Members:
    files = []
    for field in schema:
        if field.form in ("media", "array"):
            extension = codec.extension if is_encoded(field, codec) else _RAW.extension
            files.append((field, extension if field is schema.sole_output else f"{field.name}.{extension}"))
    others = [field for field in schema if field.form in ("scalar", "text")]
    known = [field for name in ("index", "label") for field in others if field.name == name]
    others = [field for field in others if field not in known]
    return _Members(files, [*known, *others] if others else [])


def _plain(field: Field, column: Column) -> list[Any]:
    """Return a column's values as JSON values. JSON has no NaN: a missing float is null."""
    if isinstance(column, Ragged):
        return [piece.decode() for piece in column.pieces()]
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f" and field.nullable:
        return [None if value != value else value for value in values]
    return values


class _Headers:
    """Makes the headers of members with one extension, a batch at a time."""

    def __init__(self, extension: str) -> None:
        name = b"000000000000.%s" % extension.encode()
        self.block = name.ljust(100, b"\0") + MODE_AND_OWNER + b"00000000000" + AFTER_SIZE + b"000000" + AFTER_CHECKSUM
        self._plain_sum = sum(self.block) - sum(self.block[148:156]) + 8 * ord(" ")

    def blocks(self, names: NDArray[np.uint8], size_B: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the headers, uint8 [B, 512], of members with these :func:`_decimal` names and sizes."""
        blocks = np.empty((len(size_B), BLOCK), np.uint8)
        blocks[:] = np.frombuffer(self.block, np.uint8)
        octal = size_B[:, None] >> _EIGHTS_11 & 7
        blocks[:, NAME] += names
        blocks[:, SIZE] += octal.astype(np.uint8)
        # The sum of the header's bytes, with those of its own field as spaces.
        checksum_B = self._plain_sum + names.sum(axis=1, dtype=np.int64) + octal.sum(axis=1)
        blocks[:, CHECKSUM] += (checksum_B[:, None] >> _EIGHTS_6 & 7).astype(np.uint8)
        return blocks

    def members(self, names: NDArray[np.uint8], files: list[bytes]) -> list[Sequence[bytes]]:
        """Return the pieces of the files' members: all headers, the files, and the padding of their last blocks."""
        sizes = list(map(len, files))
        heads = _cut(self.blocks(names, np.array(sizes, np.int64)))
        return [heads, files, [PADDING[-size % BLOCK] for size in sizes]]


def _decimal(start: int, count: int) -> NDArray[np.uint8]:
    """Return the twelve digits of each index from ``start`` on: uint8 [count, 12]."""
    return (np.arange(start, start + count)[:, None] // _TENS % 10).astype(np.uint8)


_TENS = 10 ** np.arange(11, -1, -1)
_EIGHTS_11, _EIGHTS_6 = 3 * np.arange(10, -1, -1), 3 * np.arange(5, -1, -1)
"""Divisors, or shifts, that give the digits of a number."""


def _cut(blocks: NDArray[np.uint8]) -> list[bytes]:
    """Return each row as bytes."""
    data, size = blocks.tobytes(), blocks.shape[1]
    return [data[at : at + size] for at in range(0, len(data), size)]


class WebDatasetReader(OpenShard):
    """Finds the samples by their headers, from the start up to the last one that was requested; keeps their offsets."""

    what = "a WebDataset shard"

    def _begin(self) -> None:
        self._members = _members_of(self._schema, self._codec)
        limits = {extension: max_stored_bytes(field) for extension, field in self._members.extensions.items()}
        limits |= {"json": _MAX_JSON} if self._members.in_json else {}
        self._limits = limits | ({"cls": 32} if self._schema.class_names is not None else {})
        self._places = [0]

    def _record(self, row: int) -> Record:
        while len(self._places) <= row + 1:
            at = self._places[-1]
            for _ in self._limits:
                _, _, size = self._header(at)
                at += BLOCK + size + -size % BLOCK
            self._places.append(at)
        at, index, members = self._places[row], None, {}
        for _ in self._limits:
            number, extension, size = self._header(at)
            if index not in (None, number) or extension in members:
                raise ValueError(f"at byte {at:,} a member of another sample than {index}")
            index, members[extension] = number, exactly(self._files[0], size)
            at += BLOCK + size + -size % BLOCK
        assert index is not None
        return Record(index, self._values(index, members))

    def _header(self, at: int) -> tuple[int, str, int]:
        """Return the sample, extension and size of the member at an offset; leaves the file at its data."""
        self._files[0].seek(at)
        header = self._files[0].read(BLOCK)
        if len(header) < BLOCK or not any(header):
            raise ValueError(f"no header at byte {at:,}")
        digits, extension = header[:100].rstrip(b"\0").decode("ascii").split(".", 1)
        size = int(header[124:135], 8)
        if extension not in self._limits or not 0 <= size <= self._limits[extension]:
            raise ValueError(f"at byte {at:,} a member .{extension} of {size:,} bytes, which no sample has")
        return int(digits), extension, size

    def _values(self, index: int, members: Mapping[str, bytes]) -> dict[str, Any]:
        values: dict[str, Any] = {"index": index}
        if "cls" in members:
            values["label"] = int(members["cls"])
        if "json" in members:
            document = json.loads(members["json"])
            values |= {field.name: _parsed(field, document[field.name]) for field in self._members.in_json}
        for extension, field in self._members.extensions.items():
            data = members[extension]
            values[field.name] = data if is_encoded(field, self._codec) else _RAW.decode(data, field)
        return values


def _parsed(field: Field, value: Any) -> Any:
    """Return the value of a field's JSON value."""
    return math.nan if value is None and field.nullable and field.numpy_dtype.kind == "f" else value


_MAX_JSON = 1 << 26
"""Limit in bytes of a sample's numbers and texts."""
