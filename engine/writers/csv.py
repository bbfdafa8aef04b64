"""CSV shards: tables as text.

The syntax is that of RFC 4180: UTF-8 without a byte order mark, a line of column names in every file, fields separated
by commas, and every record, the last one too, ended by CR LF. A field is quoted if it has a comma, a quote or a line
end in it, or a space at either end, or is empty; quotes in it are doubled, and its line ends stay as they are. A
missing value is an empty field without quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from gen_engine.engine.base.strict_json import show
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import RequestError
from gen_engine.engine.native import core
from gen_engine.engine.native.contract import RecordColumn
from gen_engine.engine.sample.schema import Batch, Layout, Ragged, Record, Schema
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.contract import ShardFile
from gen_engine.engine.writers.csv_cells import Cells, cells_of, escaped, quoted
from gen_engine.engine.writers.shard import (
    MAX_TEXT_BYTES,
    OpenShard,
    ShardsAlone,
    StagedShard,
    check_columns,
    exactly,
    numbered,
)

END: Final = b"\r\n"


class CsvFormat(ShardsAlone):
    """``data/train-00000-of-00010.csv``: a line per sample, with a column per field that is a number or text.

    Columns have the fields' titles, categories their names; rows of a table are in the order of their index, which is
    no column of theirs.
    """

    name = "csv"
    identity = "csv/1"
    holds_arrays = True
    escape = False
    """Whether texts that a spreadsheet would run have an apostrophe before them."""

    def check_available(self) -> None:
        """Do nothing: the format needs no library."""

    def check(self, layout: Layout) -> None:
        """Raise RequestError for a field of several values, or columns or categories that a reader would confuse."""
        check_columns(layout.schema, "npy")
        for field in layout.schema.columns:
            if field.form not in ("scalar", "text"):
                raise RequestError(
                    f"format csv holds numbers and text, and field {field.name} is {field.kind} {list(field.shape)}; "
                    "use --format parquet or npy"
                )
            if field.categories is not None and len(set(field.categories)) < len(field.categories):
                raise RequestError(
                    f"format csv holds categories by their names, and two of field {field.name} have one name; use "
                    "--format npy"
                )
        (only, *others) = layout.schema.columns
        if not others and only.nullable and "" in (only.categories or ()):
            raise RequestError(
                f"column {show(only.column)} is the only one, and a line of CSV cannot say whether its value is "
                "missing or is the empty category; use --format parquet"
            )

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the name of the shard's only file."""
        return [f"{numbered(layout, number)}.csv"]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> CsvWriter:
        """Start a shard. The codec is not used."""
        return (EscapedCsvWriter if self.escape else CsvWriter)(
            scratch, self.file_names(layout, shard.number), layout, shard
        )

    def open_shard(self, files: Sequence[ShardFile], layout: Layout, shard: Shard, codec: Codec) -> CsvReader:
        """Open a shard."""
        return (EscapedCsvReader if self.escape else CsvReader)(files, layout, shard, codec)

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return the pattern by which Hugging Face finds the shards."""
        return {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.csv"}]}]}

    def example(self, layout: Layout) -> str:
        """Return code that reads all shards with pandas."""
        lines = [
            "from glob import glob",
            "",
            "import pandas",
            "",
            "# Only an empty field is a missing value: by default, pandas takes texts like NA for one.",
            'how = {"keep_default_na": False, "na_values": [""]}',
            'shards = [pandas.read_csv(path, **how) for path in sorted(glob("PATH/data/train-*.csv"))]',
            "print(pandas.concat(shards, ignore_index=True))",
        ]
        return "\n".join(lines)


class EscapedCsvFormat(CsvFormat):
    """CSV whose texts no spreadsheet runs as formulas: those that begin like one have an apostrophe before them.

    Names of columns and categories too. Numbers, dates and times stay as they are. An apostrophe at the beginning of a
    text of its own is doubled, so that reading gives every text back.
    """

    name = "csv-escaped"
    identity = "csv-escaped/1"
    escape = True

    def example(self, layout: Layout) -> str:
        """Return code that reads all shards with pandas."""
        note = "# Texts that a spreadsheet would run as formulas (=, +, -, @) have an apostrophe before them."
        return f"{super().example(layout)}\n{note}"


def _head(schema: Schema, *, escape: bool) -> bytes:
    titles = [escaped(field.column) if escape else field.column for field in schema.columns]
    return ",".join(map(quoted, titles)).encode() + END


class CsvWriter(StagedShard):
    """Writes a batch's lines in one go."""

    escape = False

    def _begin(self) -> None:
        self._cells = [(field.name, cells_of(field, escape=self.escape)) for field in self._schema.columns]
        self._alone = len(self._cells) == 1
        self._files[0].write(_head(self._schema, escape=self.escape))

    def _append(self, batch: Batch) -> None:
        columns = [cells.column(batch.columns[name]) for name, cells in self._cells]
        compiled = core()
        lines = _lines if compiled is None or self._alone else compiled.csv_lines
        self._files[0].write(lines(len(batch), columns))


class EscapedCsvWriter(CsvWriter):
    """The same, with apostrophes."""

    escape = True


def _lines(samples: int, columns: list[RecordColumn]) -> bytes:
    """Return a batch's lines: the reference of :meth:`~gen_engine.engine.native.contract.Core.csv_lines`."""
    fields = [_fields(samples, column) for column in columns]
    if len(fields) == 1:  # an empty line would be no record to most readers
        fields = [[field or b'""' for field in fields[0]]]
    return b"".join(b",".join(row) + END for row in zip(*fields, strict=True))


def _fields(samples: int, column: RecordColumn) -> list[bytes]:
    kind, *values = column
    if kind == "signed":
        (numbers,) = values
        return [b"" if number == _NONE else b"%d" % number for number in numbers.tolist()]
    if kind == "named":
        names, ids = Ragged(*values[:2]).pieces(), values[2]
        return [names[place] if place >= 0 else b"" for place in ids.tolist()]
    return Ragged(*values).pieces()


_NONE: Final = np.iinfo(np.int64).min
"""In a column of signed numbers, none."""


class CsvReader(OpenShard):
    """Finds the lines from the start up to the last one that was requested; keeps their offsets."""

    what = "a CSV shard"
    escape = False

    def _begin(self) -> None:
        head, (self._file,) = _head(self._schema, escape=self.escape), self._files
        self._cells: list[tuple[str, Cells]] = [
            (field.name, cells_of(field, escape=self.escape)) for field in self._schema.columns
        ]
        if exactly(self._file, len(head)) != head:
            raise ValueError("its columns are not those of the schema")
        self._limit = len(self._cells) * MAX_TEXT_BYTES
        self._places, self._scanned, self._inside = [len(head)], len(head), False

    def _record(self, row: int) -> Record:
        while len(self._places) <= row + 1:
            self._scan()
        start, stop = self._places[row : row + 2]
        if stop - start > self._limit:
            raise ValueError(f"a line of {stop - start:,} bytes at byte {start:,}; at most {self._limit:,} are due")
        self._file.seek(start)
        fields = split(exactly(self._file, stop - start))
        if len(fields) != len(self._cells):
            raise ValueError(f"the line at byte {start:,} has {len(fields)} fields, {len(self._cells)} are due")
        if len(fields) == 1 and fields[0] == "":
            fields = [None if self._cells[0][1].field.nullable else ""]
        values: dict[str, Any] = {"index": self._shard.start + row}
        for (name, cells), field in zip(self._cells, fields, strict=True):
            values[name] = cells.parse(field)
        return Record(values["index"], values)

    def _scan(self) -> None:
        """Find the ends of the lines in the next block: line feeds with an even number of quotes before them."""
        self._file.seek(self._scanned)
        block = np.frombuffer(self._file.read(_BLOCK), np.uint8)
        if not len(block):
            raise ValueError(f"it ends after {len(self._places) - 1:,} lines")
        is_inside = np.logical_xor.accumulate(np.concatenate([[self._inside], block == ord('"')]))[1:]
        ends = np.flatnonzero((block == ord("\n")) & ~is_inside) + 1 + self._scanned
        self._places += ends.tolist()
        self._scanned, self._inside = self._scanned + len(block), bool(is_inside[-1])


class EscapedCsvReader(CsvReader):
    """The same, with apostrophes."""

    escape = True


_BLOCK: Final = 1 << 20
_FIELD: Final = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)')


def split(line: bytes) -> list[str | None]:
    """Return the fields of one line with its end; None for an empty one without quotes.

    Raises:
        ValueError: it is not a line of this module's CSV.
    """
    text = line.decode()
    if '"' not in text and text.endswith("\r\n") and text.count("\n") == 1 == text.count("\r"):
        return [field or None for field in text[:-2].split(",")]
    fields: list[str | None] = []
    at, end = 0, ","
    while end == ",":
        found = _FIELD.match(text, at)
        if found is None:
            raise ValueError(f"a field at character {at} of a line is not CSV")
        inside, bare, end = found.groups()
        fields.append(bare or None if inside is None else inside.replace('""', '"'))
        at = found.end()
    if at != len(text):
        raise ValueError(f"a line goes on at character {at}")
    return fields
