"""ONNX files on the wire: a bounded reader of the protobuf encoding that needs neither onnx nor protobuf.

A bundle's graph must be inspected before a runtime sees it, and the sampling path imports no onnx. This module has
the messages of ``onnx.proto`` (IR version 14) by field number only: the meaning of fields is in
:mod:`gen_engine.engine.identity.confinement`.

The reader is stricter than protobuf, so that two readers cannot interpret one file differently: a field that the
schema does not list, a wrong wire type, a singular field that occurs twice, and a length beyond the end of its message
are all errors.

Encoding: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRE: Final = {"int": _VARINT, "f64": _FIXED64, "f32": _FIXED32}
"""Scalar kind → wire type. Every other kind is length-delimited: ``bytes`` (not parsed) or a message."""

_NUMBER_BITS = 32


class FieldType(NamedTuple):
    """The schema of a field."""

    kind: str
    """``int``, ``f32``, ``f64``, ``bytes``, or the name of a message in :data:`SCHEMA`."""

    repeated: bool


class Field(NamedTuple):
    """One field of a message."""

    number: int
    kind: str
    value: int | memoryview
    """An int for a varint; for everything else the bytes, a packed array's too."""


def _message(text: str) -> dict[int, FieldType]:
    """Parse ``number:kind`` pairs; a star marks a repeated field."""
    pairs = (field.split(":") for field in text.split())
    return {int(number): FieldType(kind.rstrip("*"), kind.endswith("*")) for number, kind in pairs}


SCHEMA: Final = {
    "Model": _message(
        "1:int 2:bytes 3:bytes 4:bytes 5:int 6:bytes 7:Graph 8:bytes* 14:bytes* 20:Training* 25:Function* 26:bytes*"
    ),
    "Graph": _message(
        "1:Node* 2:bytes 5:Tensor* 10:bytes 11:bytes* 12:bytes* 13:bytes* 14:bytes* 15:Sparse* 16:bytes*"
    ),
    "Node": _message("1:bytes* 2:bytes* 3:bytes 4:bytes 5:Attribute* 6:bytes 7:bytes 8:bytes 9:bytes* 10:bytes*"),
    "Attribute": _message(
        "1:bytes 2:f32 3:int 4:bytes 5:Tensor 6:Graph 7:f32* 8:int* 9:bytes* 10:Tensor* 11:Graph* 13:bytes 14:bytes "
        "15:bytes* 20:int 21:bytes 22:Sparse 23:Sparse*"
    ),
    "Tensor": _message(
        "1:int* 2:int 3:bytes 4:f32* 5:int* 6:bytes* 7:int* 8:bytes 9:bytes 10:f64* 11:int* 12:bytes 13:bytes* 14:int "
        "16:bytes*"
    ),
    "Sparse": _message("1:Tensor 2:Tensor 3:int*"),
    "Function": _message(
        "1:bytes 4:bytes* 5:bytes* 6:bytes* 7:Node* 8:bytes 9:bytes* 10:bytes 11:Attribute* 12:bytes* 13:bytes "
        "14:bytes*"
    ),
    "Training": _message("1:Graph 2:Graph 3:bytes* 4:bytes*"),
}
"""Message → field number → type. Types of values, metadata and device configurations can refer to no data, so they are
``bytes`` here."""


class WireReader:
    """Reads messages of one file, and counts their fields.

    Args:
        max_fields: limit on the fields of all messages together.
    """

    def __init__(self, max_fields: int) -> None:
        self._left = self._max = max_fields

    def fields(self, message: str, data: memoryview) -> Iterator[Field]:
        """Yield the fields of one message in their order.

        Raises:
            ValueError: the bytes are not such a message, or the file has too many fields.
        """
        schema, at, seen = SCHEMA[message], 0, set()
        while at < len(data):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {self._max} fields")
            tag, at = _varint(data, at, message)
            number, wire = tag >> 3, tag & 7
            if tag >> _NUMBER_BITS or number not in schema:
                raise ValueError(f"{message} has a field {number}, which no IR version up to 14 has")
            kind, repeated = schema[number]
            if number in seen and not repeated:
                raise ValueError(f"{message} has field {number} twice")
            seen.add(number)
            value, at = _value(data, at, wire, f"field {number} of {message}")
            if wire != _WIRE.get(kind, _BYTES) and not (repeated and kind in _WIRE and wire == _BYTES):
                raise ValueError(f"field {number} of {message} has wire type {wire}, and it is of kind {kind}")
            yield Field(number, kind, value)


def packed_ints(value: int | memoryview) -> Iterator[int]:
    """Yield the numbers of one occurrence of a repeated ``int`` field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at, "a packed array")
        yield number


def _value(data: memoryview, at: int, wire: int, what: str) -> tuple[int | memoryview, int]:
    """Return a field's value, and the offset of its end."""
    if wire == _VARINT:
        return _varint(data, at, what)
    if wire == _BYTES:
        size, at = _varint(data, at, what)
    elif wire in (_FIXED32, _FIXED64):
        size = 4 if wire == _FIXED32 else 8
    else:
        raise ValueError(f"{what} has wire type {wire}, which ONNX does not use")
    if size > len(data) - at:
        raise ValueError(f"{what} is {size} bytes long, and its message ends after {len(data) - at}")
    return data[at : at + size], at + size


def _varint(data: memoryview, at: int, what: str) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(data[at : at + 10]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if number >> 64:
                break
            return number, at + place + 1
    raise ValueError(f"{what} has a number that does not end, or has more than 64 bits")
