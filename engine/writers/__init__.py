"""Dataset formats, one module per format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gen_engine.engine.base.registry import Registry
from gen_engine.engine.errors import RequestError

if TYPE_CHECKING:
    from gen_engine.engine.writers.contract import Format

FORMATS = Registry(
    "gen_engine.formats",
    "format",
    RequestError,
    {
        "npy": "gen_engine.engine.writers.npy:NpyFormat",
        "webdataset": "gen_engine.engine.writers.webdataset:WebDatasetFormat",
        "parquet": "gen_engine.engine.writers.parquet:ParquetFormat",
        "mds": "gen_engine.engine.writers.mds:MdsFormat",
        "tfrecord": "gen_engine.engine.writers.tfrecord:TfRecordFormat",
        "csv": "gen_engine.engine.writers.csv:CsvFormat",
        "csv-escaped": "gen_engine.engine.writers.csv:EscapedCsvFormat",
    },
)
"""Values of ``--format``; a package adds one by an entry point in the group ``gen_engine.formats``."""


def open_format(name: str) -> Format:
    """Make the format that ``--format`` names, and check that its library is installed.

    Raises:
        RequestError: no format has this name.
        WriterUnavailable: its library is not installed.
    """
    chosen = find_format(name)
    chosen.check_available()
    return chosen


def find_format(name: str) -> Format:
    """Make a format for uses that need no library: its file names and its index.

    Raises:
        RequestError: no format has this name.
    """
    chosen: Format = FORMATS.load(name)()
    return chosen
