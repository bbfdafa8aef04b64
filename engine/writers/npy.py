"""NumPy shards: one array per field, for ``np.load(…, mmap_mode="r")``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import npy_header
from gen_engine.engine.sample.schema import Batch, Field, Layout, Ragged, Record
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.contract import ShardFile
from gen_engine.engine.writers.shard import (
    MAX_TEXT_BYTES,
    OpenShard,
    ShardsAlone,
    StagedShard,
    exactly,
    numbered,
)

_PLURALS = {"image": "images", "sample": "samples", "label": "labels"}
"""Fields whose files are not named like the field."""


class NpyFormat(ShardsAlone):
    """``data/train-00000-of-00010.images.npy`` (uint8 [B, H, W, C]), ``.labels.npy`` and ``.index.npy`` (int64 [B]).

    Every other field has a file named after it, in its own dtype. Text is two arrays: its UTF-8 bytes, and in
    ``.NAME-offsets.npy`` (int64 [B + 1]) the offset of each text.
    """

    name = "npy"
    identity = "npy/1"
    holds_arrays = True

    def check_available(self) -> None:
        """Do nothing: NumPy is always installed."""

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the shard's names, one or two per field."""
        return [f"{numbered(layout, number)}.{array}.npy" for field in layout.schema for array in _arrays(field)]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> NpyWriter:
        """Start a shard. The codec is not used."""
        return NpyWriter(scratch, self.file_names(layout, shard.number), layout, shard)

    def open_shard(self, files: Sequence[ShardFile], layout: Layout, shard: Shard, codec: Codec) -> NpyReader:
        """Open a shard."""
        return NpyReader(files, layout, shard, codec)

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return nothing: Hugging Face has no reader for NumPy files."""
        return {}

    def example(self, layout: Layout) -> str:
        """Return code that maps the first shard."""
        arrays = [name.split(".")[-2] for name in self.file_names(layout, 0)]
        lines = ["import numpy as np", "", f'shard = "PATH/{numbered(layout, 0)}"']
        if all(name.isidentifier() for name in arrays) and len(arrays) <= 8:
            names = ", ".join(arrays)
            lines.append(
                f'{names} = (np.load(f"{{shard}}.{{name}}.npy", mmap_mode="r") for name in "{names}".split(", "))'
            )
        else:
            lines += [f'print(np.load(f"{{shard}}.{name}.npy", mmap_mode="r"))' for name in arrays[:8]]
        return "\n".join(lines)


class NpyWriter(StagedShard):
    """Writes each array's header for the whole shard, then the batches as they arrive; text at the end."""

    def _begin(self) -> None:
        count = self._shard.stop - self._shard.start
        self._texts: dict[str, list[bytes]] = {field.name: [] for field in self._schema if field.form == "text"}
        files = iter(self._files)
        for field in self._schema:
            for _, file in zip(_arrays(field), files, strict=False):
                if field.form != "text":
                    file.write(npy_header(field.numpy_dtype.str, (count, *field.sizes)))

    def _append(self, batch: Batch) -> None:
        files = iter(self._files)
        for field in self._schema:
            file, column = next(files), batch.columns[field.name]
            if isinstance(column, Ragged):
                self._texts[field.name] += column.pieces()
                next(files)
            else:
                file.write(np.ascontiguousarray(column, field.numpy_dtype).data)

    def _finish(self) -> None:
        files = iter(self._files)
        for field in self._schema:
            file = next(files)
            if field.form == "text":
                texts = self._texts[field.name]
                file.write(npy_header("|u1", (sum(map(len, texts)),)) + b"".join(texts))
                offsets = np.cumsum([0, *map(len, texts)], dtype="<i8")
                next(files).write(npy_header("<i8", offsets.shape) + offsets.tobytes())


class NpyReader(OpenShard):
    """Reads the rows of each array in place."""

    what = "NumPy arrays"

    def _begin(self) -> None:
        count = self._shard.stop - self._shard.start
        self._starts: list[int] = []
        files = iter(self._files)
        for field in self._schema:
            file = next(files)
            if field.form == "text":
                self._starts.append(_skip_text_header(file))
                header = npy_header("<i8", (count + 1,))
                file = next(files)
            else:
                header = npy_header(field.numpy_dtype.str, (count, *field.sizes))
            if file.read(len(header)) != header:
                raise ValueError(f"the array of field {field.name} does not have the dtype and shape of the schema")
            self._starts.append(len(header))

    def _record(self, row: int) -> Record:
        values: dict[str, Any] = {}
        files = iter(zip(self._files, self._starts, strict=True))
        for field in self._schema:
            file, start = next(files)
            if field.form == "text":
                values[field.name] = _text(file, start, *next(files), row)
                continue
            file.seek(start + row * field.value_bytes)
            array = np.frombuffer(exactly(file, field.value_bytes), field.numpy_dtype)
            values[field.name] = array.reshape(field.sizes) if field.form != "scalar" else array[0].item()
        return Record(values["index"], values)


def _arrays(field: Field) -> list[str]:
    """Return the names of a field's arrays."""
    name = _PLURALS.get(field.name, field.name)
    return [name, f"{name}-offsets"] if field.form == "text" else [name]


def _skip_text_header(file: Any) -> int:
    version = np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if version != (1, 0) or len(shape) != 1 or fortran or dtype != np.uint8:
        raise ValueError("text is not a .npy file of format 1.0 with uint8 [bytes]")
    position: int = file.tell()
    return position


def _text(file: Any, start: int, offsets_file: Any, offsets_start: int, row: int) -> str:
    offsets_file.seek(offsets_start + 8 * row)
    first, last = np.frombuffer(exactly(offsets_file, 16), "<i8").tolist()
    if not 0 <= last - first <= MAX_TEXT_BYTES:
        raise ValueError(f"a text of {last - first:,} bytes, 0 to {MAX_TEXT_BYTES:,} are supported")
    file.seek(start + first)
    return exactly(file, last - first).decode()
