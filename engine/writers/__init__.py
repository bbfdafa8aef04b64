"""Shard writers, one file a format."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gen_engine.engine.errors import RequestError

if TYPE_CHECKING:
    from gen_engine.engine.writers.contract import Format

FORMATS = {
    "npy": "gen_engine.engine.writers.npy:NpyFormat",
    "webdataset": "gen_engine.engine.writers.webdataset:WebDatasetFormat",
    "parquet": "gen_engine.engine.writers.parquet:ParquetFormat",
    "mds": "gen_engine.engine.writers.mds:MdsFormat",
    "tfrecord": "gen_engine.engine.writers.tfrecord:TfRecordFormat",
}
"""What ``--format`` may name → where it lives. Imported when it is made."""


def open_format(name: str) -> Format:
    """Make the format that ``--format`` names, and see that its library is here.

    Raises:
        RequestError: there is no such format.
        WriterUnavailable: its library is not installed.
    """
    if name not in FORMATS:
        raise RequestError(f"unknown format {name!r}: choose one of {', '.join(FORMATS)}")
    module, _, attribute = FORMATS[name].partition(":")
    chosen: Format = getattr(import_module(module), attribute)()
    chosen.check_available()
    return chosen
