"""Codecs: how one sample becomes bytes inside a shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gen_engine.engine.base.registry import Registry
from gen_engine.engine.errors import RequestError

if TYPE_CHECKING:
    from gen_engine.engine.codecs.contract import Codec

CODECS = Registry(
    "gen_engine.codecs",
    "codec",
    RequestError,
    {
        "png": "gen_engine.engine.codecs.png:PngCodec",
        "png-zlib": "gen_engine.engine.codecs.png:ZlibPngCodec",
        "jpeg": "gen_engine.engine.codecs.jpeg:JpegCodec",
        "raw": "gen_engine.engine.codecs.raw:RawCodec",
    },
)
"""Values of ``--codec``; a package adds one by an entry point in the group ``gen_engine.codecs``."""


def open_codec(name: str) -> Codec:
    """Make the codec that ``--codec`` names.

    Raises:
        RequestError: no codec has this name.
        WriterUnavailable: its library is not installed.
    """
    codec: Codec = CODECS.load(name)()
    return codec
