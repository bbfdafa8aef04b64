"""Lines of journals: read as they were written, or as if they were not there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.commit.journal import Entry, JournaledFile, read_line, sorted_entries, to_line
from gen_engine.engine.commit.records import FileRecord

DIGESTS = st.integers(0, 2**256 - 1).map("{:064x}".format)
FILES = st.builds(
    FileRecord,
    name=st.from_regex(r"data/[a-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    bytes=st.integers(0, 2**50),
    blake3=DIGESTS,
    sha256=st.none() | DIGESTS,
)
JOURNALED = st.builds(JournaledFile, FILES, st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1))
ENTRIES = st.builds(Entry, st.integers(0, 10**12 - 1), st.lists(JOURNALED, min_size=1, max_size=4).map(tuple))


@given(ENTRIES)
def test_a_line_is_read_as_it_was_written(entry: Entry) -> None:
    assert read_line(to_line(entry)) == entry
    assert to_line(entry).count(b"\n") == 2


@given(entry=ENTRIES, data=st.data())
def test_a_line_with_another_byte_is_as_if_it_were_not_there(entry: Entry, data: st.DataObject) -> None:
    line = to_line(entry)
    at = data.draw(st.integers(1, len(line) - 2))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (line[at], 10)))
    assert read_line(line[:at] + bytes([other]) + line[at + 1 :]) is None


def sealed(document: Any) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"\n%s %s\n" % (sha256_bytes(body)[:16].encode(), body)


FILE = {"name": "data/a", "bytes": 1, "blake3": "0" * 64, "version": "1"}
LINE = {"shard": 0, "files": [FILE]}


@pytest.mark.parametrize(
    "document",
    [
        None,
        5,
        [],
        {},
        [LINE],
        LINE | {"shard": -1},
        LINE | {"shard": 10**12},
        LINE | {"shard": "0"},
        LINE | {"shard": True},
        LINE | {"more": 0},
        LINE | {"files": []},
        LINE | {"files": None},
        LINE | {"files": [FILE] * 1000},
        {"shard": 0},
        *(LINE | {"files": [{k: v for k, v in FILE.items() if k != name}]} for name in FILE),
        *(LINE | {"files": [FILE | {name: None}]} for name in FILE),
        LINE | {"files": [FILE | {"name": "../a"}]},
        LINE | {"files": [FILE | {"name": "README.md"}]},
        LINE | {"files": [FILE | {"bytes": -1}]},
        b'{"shard":0,"shard":0,"files":[]}',
        b'{"shard":NaN}',
        b'{"shard":' + b"9" * 5000 + b"}",
        b'{"shard":' * 50_000,
        b"\xff",
        b"",
    ],
)
def test_a_line_whose_digest_is_right_and_which_makes_no_sense(document: Any) -> None:
    assert read_line(sealed(LINE)) is not None
    assert read_line(sealed(document)) is None


@given(st.lists(st.integers(0, 20), max_size=40))
def test_entries_are_sorted_and_the_last_of_a_shard_is_first(shards: list[int]) -> None:
    written = [
        Entry(shard, (JournaledFile(FileRecord("data/a", at, "0" * 64), "1"),)) for at, shard in enumerate(shards)
    ]
    lines = [line for entry in written for line in (to_line(entry), b"half a li\n")]
    expected = sorted(written, key=lambda entry: (entry.shard, -entry.files[0].file.bytes))
    assert list(sorted_entries(lines, range(21))) == expected
    assert list(sorted_entries(lines, range(5, 9))) == [entry for entry in expected if entry.shard in range(5, 9)]
