"""Shard writers, one file a format."""

from __future__ import annotations

from collections.abc import Callable

from gen_engine.engine.errors import RequestError
from gen_engine.engine.writers.contract import Format
from gen_engine.engine.writers.npy import NpyFormat
from gen_engine.engine.writers.parquet import ParquetFormat
from gen_engine.engine.writers.webdataset import WebDatasetFormat

FORMATS: dict[str, Callable[[], Format]] = {
    "npy": NpyFormat,
    "webdataset": WebDatasetFormat,
    "parquet": ParquetFormat,
}
"""What ``--format`` may name. None imports its library before it is used."""


def open_format(name: str) -> Format:
    """Make the format that ``--format`` names, and see that its library is here.

    Raises:
        RequestError: there is no such format.
        WriterUnavailable: its library is not installed.
    """
    if name not in FORMATS:
        raise RequestError(f"unknown format {name!r}: choose one of {', '.join(FORMATS)}")
    chosen = FORMATS[name]()
    chosen.check_available()
    return chosen
