"""Encode and parse records of the protocol buffer tf.train.Example, from precomputed pieces.

An Example (``tensorflow/core/example/example.proto``, ``feature.proto``) is a map from the names of features to lists
of bytes, floats or integers. Only the values change from record to record; the protobuf library spends more time on a
record than a good encoder spends on its image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

BYTES, FLOATS, INTEGERS = 1, 2, 3
"""Field numbers of a Feature, which say what kind of list it is."""

_KEY, _VALUE = 1, 2
"""Field numbers of a map entry."""


def varint(value: int) -> bytes:
    """Return an integer of up to 64 bits as a protocol buffer varint: 7 bits per byte, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def packed(values: Sequence[int]) -> bytes:
    """Return the value of a list of integers."""
    return b"".join(map(varint, values))


def field(number: int, size: int) -> bytes:
    """Return what precedes the ``size`` bytes of a field."""
    return bytes([number << 3 | 2]) + varint(size)


@lru_cache(maxsize=1 << 12)  # files of one codec have a few thousand distinct sizes
def before(name: str, kind: int, size: int) -> bytes:
    """Return a feature's map entry without its last ``size`` bytes, the value: a file, or packed numbers."""
    value = field(1, size)  # of a BytesList, FloatList or Int64List
    feature = field(kind, len(value) + size) + value
    key = field(_KEY, len(name)) + name.encode()
    entry = key + field(_VALUE, len(feature) + size) + feature
    return field(1, len(entry) + size) + entry


def entry(name: str, kind: int, value: bytes) -> bytes:
    """Return a feature's map entry; ``kind`` is the kind of list that ``value`` is."""
    return before(name, kind, len(value)) + value


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and bytes of each field of a message that has only length-delimited fields."""
    at = 0
    while at < len(data):
        tag, at = number(data, at)
        size, at = number(data, at)
        if tag & 7 != 2 or at + size > len(data):
            raise ValueError("a record is not a tf.train.Example")
        yield tag >> 3, data[at : at + size]
        at += size


def number(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint at an offset, and the offset of its end."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def features(record: bytes) -> dict[str, Any]:
    """Return a record's features: bytes, float32 arrays and lists of integers."""
    (example,) = (value for number, value in fields(record) if number == 1)
    features: dict[str, Any] = {}
    for _, entry in fields(example):
        parts = dict(fields(entry))
        ((kind, listed),) = fields(parts[_VALUE])
        ((_, value),) = fields(listed)
        name = parts[_KEY].decode()
        features[name] = value if kind == BYTES else np.frombuffer(value, "<f4") if kind == FLOATS else integers(value)
    return features


def integers(packed: bytes) -> list[int]:
    """Return the numbers of a packed list."""
    values, at = [], 0
    while at < len(packed):
        value, at = number(packed, at)
        values.append(value)
    return values
