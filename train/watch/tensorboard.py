"""TensorBoard's event file: scalars and sample grids, written without TensorBoard.

An event is a protobuf message in a TFRecord frame, and needs four field kinds of the one and a checksum of the other:
that is less to maintain than a dependency on TensorBoard, which brings gRPC and a web server. The file is made from
metrics.jsonl and the previews, so a resumed run writes it anew, without the epochs that it takes again.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from gen_engine.engine.base.files import IMAGE, read_bounded
from gen_engine.train.runs.run_dir import TENSORBOARD, preview_path

NAME = "events.out.tfevents.0000000000.gen-engine"
"""TensorBoard finds event files by the middle of their names."""


_LARGEST = 3e38
"""Of float32, about."""


def append_events(run_dir: Path, line: Mapping[str, Any], preview: Path) -> None:
    """Write the events of one epoch at the end of the file, which is made if need be."""
    path = run_dir / TENSORBOARD / NAME
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        rewrite_events(run_dir, ())
    with path.open("ab") as file:
        file.write(b"".join(map(framed, _events(line, preview))))


def rewrite_events(run_dir: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file by the events of these epochs."""
    path = run_dir / TENSORBOARD / NAME
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(".events.tmp")
    temporary.unlink(missing_ok=True)
    with temporary.open("xb") as file:
        file.write(framed(_wall_time() + _bytes(3, b"brain.Event:2")))
        for line in lines:
            file.write(b"".join(map(framed, _events(line, preview_path(run_dir, int(line["epoch"]))))))
    temporary.replace(path)


def _events(line: Mapping[str, Any], preview: Path) -> Iterator[bytes]:
    """Event {wall_time = 1, step = 2, summary = 5 {value = 1 {tag = 1, simple_value = 2, image = 4}}}."""
    step = line.get("step")
    if not isinstance(step, int) or not 0 <= step < 2**63:
        return  # no line of ours
    head = _wall_time() + _number(2, step)
    for name, value in line.items():
        if isinstance(value, int | float) and name not in ("epoch", "step"):
            near = value if abs(value) < _LARGEST else math.copysign(math.inf, value)
            yield head + _value(name, struct.pack("<Bf", 2 << 3 | 5, near))
    png = read_bounded(preview, IMAGE, follow_symlinks=False) if preview.is_file() else b""
    if len(png) > 24:
        width, height = struct.unpack(">II", png[16:24])
        image = _number(1, height) + _number(2, width) + _number(3, 3) + _bytes(4, png)
        yield head + _value("samples", _bytes(4, image))


def _value(tag: str, content: bytes) -> bytes:
    return _bytes(5, _bytes(1, _bytes(1, tag.encode()) + content))


def _wall_time() -> bytes:
    return struct.pack("<Bd", 1 << 3 | 1, time.time())


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def framed(content: bytes) -> bytes:
    """A TFRecord: the length and its masked CRC-32C, the content and its masked CRC-32C."""
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(content: bytes) -> int:
    """CRC with Castagnoli's polynomial, reflected (RFC 3720, B.4)."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table
