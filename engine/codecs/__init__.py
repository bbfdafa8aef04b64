"""Codecs: how one sample becomes bytes inside a shard."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gen_engine.engine.errors import RequestError

if TYPE_CHECKING:
    from gen_engine.engine.codecs.contract import Codec

CODECS = {
    "png": "gen_engine.engine.codecs.png:PngCodec",
    "png-zlib": "gen_engine.engine.codecs.png:ZlibPngCodec",
    "jpeg": "gen_engine.engine.codecs.jpeg:JpegCodec",
    "raw": "gen_engine.engine.codecs.raw:RawCodec",
}
"""What ``--codec`` may name → where it lives. Imported when it is made, and its library with it."""


def open_codec(name: str) -> Codec:
    """Make the codec that ``--codec`` names.

    Raises:
        RequestError: there is no such codec.
        WriterUnavailable: its library is not installed.
    """
    if name not in CODECS:
        raise RequestError(f"unknown codec {name!r}: choose one of {', '.join(CODECS)}")
    module, _, attribute = CODECS[name].partition(":")
    codec: Codec = getattr(import_module(module), attribute)()
    return codec
