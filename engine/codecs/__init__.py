"""Codecs: how one picture becomes bytes inside a WebDataset or Parquet shard."""

from __future__ import annotations

from collections.abc import Callable

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.jpeg import JpegCodec
from gen_engine.engine.codecs.png import PngCodec
from gen_engine.engine.codecs.raw import RawCodec
from gen_engine.engine.errors import RequestError

CODECS: dict[str, Callable[[], Codec]] = {
    "png": PngCodec,
    "jpeg": JpegCodec,
    "raw": RawCodec,
}
"""What ``--codec`` may name. A codec imports its library when it is made, not before."""


def open_codec(name: str) -> Codec:
    """Make the codec that ``--codec`` names.

    Raises:
        RequestError: there is no such codec.
        WriterUnavailable: its library is not installed.
    """
    if name not in CODECS:
        raise RequestError(f"unknown codec {name!r}: choose one of {', '.join(CODECS)}")
    return CODECS[name]()
