"""TFRecord shards of tf.train.Example records.

A record is the length of its data (uint64), the masked CRC-32C of these eight bytes, the data, and its masked CRC-32C,
all little-endian (``tensorflow/core/lib/io/record_writer.h``). The data is a protocol buffer
(``tensorflow/core/example/example.proto``, ``feature.proto``): an Example is a map from the names of features to lists
of bytes, floats or integers. From one record to the next only the sample, its index and its label change, so a record
is put together from prepared pieces; the protobuf library spends more time on it than a good encoder on the picture.

Shape suffixes: B samples, H height, W width, C channels, Z latent dimensions.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import RawCodec
from gen_engine.engine.errors import VerifyError, WriterUnavailable
from gen_engine.engine.sample.schema import Batch, Layout, StoredSample
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.shard import ShardsAlone, StagedShard, missing

BYTES, FLOATS, INTEGERS = 1, 2, 3
"""Fields of a Feature: which list it is."""

_KEY, _VALUE = 1, 2
"""Fields of an entry of a map."""


class TfRecordFormat(ShardsAlone):
    """``data/train.tfrecord-00000-of-00010`` with the features ``image``, ``index`` and, if there are any, ``label``.

    With the codec raw, the image is its C-order bytes, and samples that are no images are floats in a feature
    ``sample``; the feature ``shape`` is there for both. Their origin, where it is stored, is in ``latents`` (floats)
    and ``seed``. Integers are int64, so a seed of 2**63 and above is stored less 2**64.
    """

    name = "tfrecord"
    identity = "tfrecord/1"
    holds_arrays = False

    def check_available(self) -> None:
        """Raise WriterUnavailable if google-crc32c is missing."""
        _crc32c()

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the shard's one name."""
        width = max(5, len(str(layout.shards)))
        return [f"data/train.tfrecord-{number:0{width}d}-of-{layout.shards:0{width}d}"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> TfRecordWriter:
        """Start a shard."""
        return TfRecordWriter(scratch, self.file_names(layout, shard.number), layout, shard, codec)

    def read(self, files: Sequence[Path], indices: Sequence[int]) -> Iterator[StoredSample]:
        """Yield samples; reads no further than the last one that was asked for."""
        (path,) = files
        wanted = set(indices)
        try:
            with open_regular(path) as file:
                while wanted:
                    record = _read_record(file)
                    if record is None:
                        raise missing(path, min(wanted))
                    features = _features(record)
                    if features["index"][0] in wanted:
                        wanted.remove(features["index"][0])
                        yield _stored(features)
        except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
            raise VerifyError(f"{path}: cannot be read as a TFRecord shard ({error})") from error

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return nothing: Hugging Face has no reader for TFRecord."""
        return {}

    def example(self, layout: Layout) -> str:
        """Return code that iterates over all shards, with the package tfrecord; TensorFlow reads them as well."""
        label = "" if layout.class_names is None else ', sample["label"][0]'
        lines = [
            "from glob import glob",
            "",
            "from tfrecord.reader import tfrecord_loader  # or tf.data.TFRecordDataset",
            "",
            'for path in sorted(glob("PATH/data/train.tfrecord-*")):',
            "    for sample in tfrecord_loader(path, None):",
            f'        print(sample["index"][0], len(sample["{layout.noun}"]){label})',
        ]
        return "\n".join(lines)


class TfRecordWriter(StagedShard):
    """Writes a batch's records in one go."""

    def __init__(self, scratch: Path, names: Sequence[str], layout: Layout, shard: Shard, codec: Codec) -> None:
        super().__init__(scratch, names, layout, shard)
        self._codec = codec
        self._crc32c = _crc32c()
        self._plain = codec.name == RawCodec.name
        self._labels = [_entry("label", INTEGERS, _varint(label)) for label in range(len(layout.class_names or ()))]
        # What no sample differs in; a reader takes the features in any order.
        self._same = _entry("shape", INTEGERS, b"".join(map(_varint, layout.shape))) if self._plain else b""
        if layout.origin is not None:
            self._same += _entry("seed", INTEGERS, _varint(layout.origin.seed))

    def _append(self, batch: Batch) -> None:
        labels = None if batch.labels_B is None else batch.labels_B.tolist()
        kind = BYTES if self._layout.dtype == np.uint8 else FLOATS
        latents = None if batch.latents_BZ is None else _rows(batch.latents_BZ)
        pieces: list[bytes] = []
        for i, sample in enumerate(_rows(batch.pixels_BHWC) if self._plain else self._codec.encode(batch.pixels_BHWC)):
            features = [
                _before(self._layout.noun, kind, len(sample)),
                sample,
                _entry("index", INTEGERS, _varint(batch.start + i)),
                self._same,
            ]
            if labels is not None:
                features.append(self._labels[labels[i]])
            if latents is not None:
                features += (_before("latents", FLOATS, len(latents[i])), latents[i])
            data = b"".join(features)
            head = _field(1, len(data))
            # One join, since the checksum needs the record in one piece.
            record = head + data
            pieces += (_length(len(record)), record, _masked(self._crc32c(record)))
        self._files[0].write(b"".join(pieces))


def _rows(array_B: NDArray[Any]) -> list[bytes]:
    """Return each sample's C-order bytes, little-endian."""
    little = array_B.astype(array_B.dtype.newbyteorder("<"), copy=False)
    return [sample.tobytes() for sample in little]


def _varint(value: int) -> bytes:
    """Return a number of up to 64 bits as a protocol buffer has it: 7 bits a byte, the least first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, size: int) -> bytes:
    """Return what stands before the ``size`` bytes of a field."""
    return bytes([number << 3 | 2]) + _varint(size)


@lru_cache(maxsize=1 << 12)  # files of one codec have few thousands of sizes
def _before(name: str, kind: int, size: int) -> bytes:
    """Return a feature's entry in the map but for its last ``size`` bytes, the value: a file, or packed numbers."""
    value = _field(1, size)  # of a BytesList, FloatList or Int64List
    feature = _field(kind, len(value) + size) + value
    key = _field(_KEY, len(name)) + name.encode()
    entry = key + _field(_VALUE, len(feature) + size) + feature
    return _field(1, len(entry) + size) + entry


def _entry(name: str, kind: int, value: bytes) -> bytes:
    return _before(name, kind, len(value)) + value


@lru_cache(maxsize=1 << 12)
def _length(size: int) -> bytes:
    """Return what stands before a record of ``size`` bytes."""
    length = struct.pack("<Q", size)
    return length + _masked(_crc32c()(length))


def _masked(crc: int) -> bytes:
    """Return a checksum as TFRecord stores it, so that the checksum of data with checksums in it is no trivial one."""
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c() -> Any:
    """Return the function from bytes to their CRC-32C."""
    try:
        import google_crc32c
    except ImportError as error:
        raise WriterUnavailable(
            f"format tfrecord needs google-crc32c ({error}): pip install 'gen-engine[tfrecord]', or use --format "
            "webdataset"
        ) from error
    return google_crc32c.value


def _read_record(file: BinaryIO) -> bytes | None:
    """Return the next record's data, or None at the end of the file."""
    head = file.read(12)
    if not head:
        return None
    size = struct.unpack("<Q", head[:8])[0]
    if head != _length(size):
        raise ValueError(f"the length of a record before byte {file.tell():,} is damaged")
    data = file.read(size)
    if len(data) < size or file.read(4) != _masked(_crc32c()(data)):
        raise ValueError(f"a record before byte {file.tell():,} is damaged")
    return data


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each field of a message that has such fields only."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        size, at = _number(data, at)
        if tag & 7 != 2 or at + size > len(data):
            raise ValueError("a record is no tf.train.Example")
        yield tag >> 3, data[at : at + size]
        at += size


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _features(record: bytes) -> dict[str, Any]:
    """Return a record's features: bytes, float32 arrays and lists of integers."""
    (example,) = (value for number, value in _fields(record) if number == 1)
    features: dict[str, Any] = {}
    for _, entry in _fields(example):
        parts = dict(_fields(entry))
        ((kind, listed),) = _fields(parts[_VALUE])
        ((_, value),) = _fields(listed)
        name = parts[_KEY].decode()
        features[name] = value if kind == BYTES else np.frombuffer(value, "<f4") if kind == FLOATS else _integers(value)
    return features


def _integers(packed: bytes) -> list[int]:
    found, at = [], 0
    while at < len(packed):
        value, at = _number(packed, at)
        found.append(value)
    return found


def _stored(features: Mapping[str, Any]) -> StoredSample:
    payload = features["image"] if "image" in features else features["sample"]
    if "shape" in features:
        shape = features["shape"]
        flat = np.frombuffer(payload, np.uint8) if isinstance(payload, bytes) else payload
        if flat.size != math.prod(shape):
            raise ValueError(f"{flat.size} values for a sample of shape {shape}")
        (payload,) = RawCodec().encode(flat.reshape(1, *shape))
    label = features["label"][0] if "label" in features else None
    seed = features["seed"][0] if "seed" in features else None
    latents = features["latents"].tobytes() if "latents" in features else None
    return StoredSample(features["index"][0], label, payload, seed, latents)
