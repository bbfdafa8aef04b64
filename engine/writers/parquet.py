"""Parquet shards as Hugging Face ``datasets`` reads them, through pyarrow.

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import RawCodec
from gen_engine.engine.errors import VerifyError, WriterUnavailable
from gen_engine.engine.sample.modalities import Pixels
from gen_engine.engine.sample.schema import Batch, Layout, StoredSample
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.shard import ShardsAlone, StagedShard, missing, numbered

GROUP_ROWS = 1_000
GROUP_BYTES = 32 * 2**20
"""A row group is written at this many rows or, for large samples, at as many as have this many bytes uncompressed."""


class ParquetFormat(ShardsAlone):
    """``data/train-00000-of-00010.parquet`` with the columns ``image``, ``label`` (if there are labels), ``index``.

    Samples that are no images are arrays in a column ``sample``. Their origin, where it is stored, is in the columns
    ``latents`` (a list of known length) and ``seed``.
    """

    name = "parquet"
    holds_arrays = False

    @property
    def identity(self) -> str:
        """Name, version and the version of pyarrow, which states itself in every file."""
        return f"parquet/1/pyarrow-{_pyarrow().__version__}"

    def check_available(self) -> None:
        """Raise WriterUnavailable if pyarrow is missing."""
        _pyarrow()

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the shard's one name."""
        return [f"{numbered(layout, number)}.parquet"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> ParquetWriter:
        """Start a shard. The codec raw makes the column an array instead of a file a picture."""
        return ParquetWriter(scratch, self.file_names(layout, shard.number), layout, shard, codec)

    def read(self, files: Sequence[Path], indices: Sequence[int]) -> Iterator[StoredSample]:
        """Yield samples; of the row groups that hold none of them only the indices are read."""
        import pyarrow.parquet as pq

        (path,) = files
        wanted = set(indices)
        try:
            with open_regular(path) as opened, pq.ParquetFile(opened) as file:
                for group in range(file.num_row_groups):
                    stored = file.read_row_group(group, ["index"])["index"].to_numpy()
                    rows = np.flatnonzero(np.isin(stored, list(wanted)))
                    if len(rows):
                        wanted.difference_update(stored[rows].tolist())
                        yield from _samples(file.read_row_group(group).take(rows))
        except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are subclasses of these
            raise VerifyError(f"{path}: cannot be read as a Parquet shard ({error})") from error
        if wanted:
            raise missing(path, min(wanted))

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return where Hugging Face finds the shards."""
        return {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}]}

    def example(self, layout: Layout) -> str:
        """Return code that loads the dataset."""
        lines = [
            "from datasets import load_dataset",
            "",
            'dataset = load_dataset("PATH", split="train")',
            "print(dataset.features, dataset[0])",
        ]
        return "\n".join(lines)


class ParquetWriter(StagedShard):
    """Gathers the samples of a row group and writes it, so that bytes do not depend on the batches."""

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard, codec: Codec) -> None:
        self._codec = codec
        self._raw = codec.name == RawCodec.name
        self._schema = _schema(layout, self._raw)
        sample_bytes = math.prod(layout.shape) * layout.dtype.itemsize
        self._group_rows = max(1, min(GROUP_ROWS, GROUP_BYTES // sample_bytes))
        self._images: list[Any] = []
        """Encoded files; with the codec raw, arrays of the layout's shape."""
        self._labels: list[int] = []
        self._latents: list[NDArray[np.float32]] = []
        self._writer: Any = None
        super().__init__(scratch, names, layout, shard)

    def _begin(self) -> None:
        import pyarrow.parquet as pq

        # PNG and JPEG do not shrink again, and statistics over them would copy whole pictures into the footer. An
        # array's bytes take four each unless there is a dictionary, since Parquet has no smaller integer; floats,
        # which hardly repeat, only have it grow and given up again.
        noun = self._layout.noun
        leaf = noun + ".list.element" * len(self._layout.shape)
        self._writer = pq.ParquetWriter(
            self._files[0],
            self._schema,
            compression={
                "image.bytes": "NONE",
                "image.path": "SNAPPY",
                leaf: "SNAPPY",
                "label": "SNAPPY",
                "index": "SNAPPY",
                "seed": "SNAPPY",
            },
            use_dictionary=[leaf, "label", "seed"] if self._layout.dtype == np.uint8 else ["label", "seed"],
            write_statistics=["label", "index"],
        )

    def _append(self, batch: Batch) -> None:
        self._images.extend(batch.pixels_BHWC.copy() if self._raw else self._codec.encode(batch.pixels_BHWC))
        if batch.labels_B is not None:
            self._labels += batch.labels_B.tolist()
        if batch.latents_BZ is not None:
            self._latents.extend(batch.latents_BZ.copy())
        start = batch.start + len(batch.pixels_BHWC) - len(self._images)
        while len(self._images) >= self._group_rows:
            self._write_group(start, self._group_rows)
            start += self._group_rows

    def _finish(self) -> None:
        if self._images:
            self._write_group(self._shard.stop - len(self._images), len(self._images))
        self._writer.close()

    def abort(self) -> None:
        """Close and remove the temporary file. Never raises."""
        # pyarrow would write the footer when the writer is collected, to a file that is closed by then.
        with contextlib.suppress(Exception):
            self._writer.close()
        super().abort()

    def _write_group(self, start: int, rows: int) -> None:
        pa = _pyarrow()
        images, self._images = self._images[:rows], self._images[rows:]
        labels, self._labels = self._labels[:rows], self._labels[rows:]
        latents, self._latents = self._latents[:rows], self._latents[rows:]
        indices = range(start, start + rows)
        if self._raw:
            columns = [_nested(np.stack(images))]
        else:
            paths = [f"{index:012d}.{self._codec.extension}" for index in indices]
            kind = self._schema.field(self._layout.noun).type
            columns = [pa.StructArray.from_arrays([pa.array(images, pa.binary()), pa.array(paths)], fields=list(kind))]
        if labels:
            columns.append(pa.array(labels, pa.int64()))
        columns.append(pa.array(indices, pa.int64()))
        if self._layout.origin is not None:
            columns.append(_nested(np.stack(latents)))
            columns.append(pa.array([self._layout.origin.seed] * rows, pa.uint64()))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=rows)


def _samples(table: Any) -> Iterator[StoredSample]:
    labels, seeds, latents = (
        table[name].to_pylist() if name in table.column_names else [None] * len(table)
        for name in ("label", "seed", "latents")
    )
    column = table["image" if "image" in table.column_names else "sample"]
    dtype = np.uint8 if "image" in table.column_names else np.float32
    rows = zip(table["index"].to_pylist(), labels, column.to_pylist(), seeds, latents, strict=True)
    for index, label, sample, seed, latent in rows:
        payload = sample["bytes"] if isinstance(sample, dict) else RawCodec().encode(np.array([sample], dtype))[0]
        z = None if latent is None else np.array(latent, "<f4").tobytes()
        yield StoredSample(index, label, payload, seed, z)


def _schema(layout: Layout, raw: bool) -> Any:
    """Return the columns, and under the key ``huggingface`` what ``datasets`` makes of them."""
    pa = _pyarrow()
    feature: dict[str, Any] = {"_type": "Image"}
    field = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    if raw:
        feature, field = _array_column(layout)
    fields = [field]
    features = {layout.noun: feature}
    if layout.class_names is not None:
        features["label"] = {"names": list(layout.class_names), "_type": "ClassLabel"}
        fields.append(pa.field("label", pa.int64()))
    features["index"] = {"dtype": "int64", "_type": "Value"}
    fields.append(pa.field("index", pa.int64()))
    if layout.origin is not None:
        features["latents"], kind = _list_column(layout.origin.latent_dim, np.dtype(np.float32))
        features["seed"] = {"dtype": "uint64", "_type": "Value"}
        fields += [pa.field("latents", kind), pa.field("seed", pa.uint64())]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _array_column(layout: Layout) -> tuple[dict[str, Any], Any]:
    """Return the column of samples that are arrays: its feature for ``datasets``, and its field."""
    pa = _pyarrow()
    rank, dtype = len(layout.shape), layout.dtype.name
    kind = pa.from_numpy_dtype(layout.dtype)
    if rank == 1:  # `datasets` has no Array1D: a list of a known length takes its place
        feature, kind = _list_column(layout.shape[0], layout.dtype)
        return feature, pa.field(layout.noun, kind)
    for _ in range(rank):
        kind = pa.list_(kind)
    # How Arrow marks an extension type, and `datasets` its arrays. Readers that do not know it see lists.
    mark = {
        "ARROW:extension:name": f"datasets.features.features.Array{rank}DExtensionType",
        "ARROW:extension:metadata": json.dumps([layout.shape, dtype]),
    }
    feature = {"shape": list(layout.shape), "dtype": dtype, "_type": f"Array{rank}D"}
    return feature, pa.field(layout.noun, kind, metadata=mark)


def _list_column(length: int, dtype: np.dtype[Any]) -> tuple[dict[str, Any], Any]:
    """Return the feature and the type of a column of lists of one length."""
    pa = _pyarrow()
    feature = {"feature": {"dtype": dtype.name, "_type": "Value"}, "length": length, "_type": "Sequence"}
    return feature, pa.list_(pa.from_numpy_dtype(dtype), length)


def _nested(pixels_BHWC: Pixels) -> Any:
    """Return the samples as the column's Arrow lists of lists, which is how ``datasets`` stores an Array3D."""
    pa = _pyarrow()
    array = pa.array(pixels_BHWC.reshape(-1))
    if pixels_BHWC.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(array, pixels_BHWC.shape[1])
    for size in pixels_BHWC.shape[:0:-1]:
        offsets = np.arange(0, len(array) + 1, size, dtype=np.int32)
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise WriterUnavailable(
            f"format parquet needs pyarrow ({error}): pip install 'gen-engine[parquet]', or use --format webdataset"
        ) from error
    return pyarrow
