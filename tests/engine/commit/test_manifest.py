"""``dataset.json`` and ``shards.jsonl`` can be read in one way, and nothing that makes no sense passes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import read_manifest, tiny_plan, write_manifest

from gen_engine.engine.base.digests import blake3_bytes, seal
from gen_engine.engine.commit.manifest import (
    Manifest,
    parse_manifest,
    read_shards,
    seal_manifest,
    shard_line,
    write_shard_list,
)
from gen_engine.engine.commit.records import FileRecord, ShardRecord
from gen_engine.engine.errors import DatasetError
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.reader import open_manifest
from gen_engine.engine.sinks import open_sink

DIGESTS = st.integers(0, 2**256 - 1).map("{:064x}".format)
FILES = st.builds(
    FileRecord,
    name=st.from_regex(r"data/[a-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    bytes=st.integers(0, 2**50),
    blake3=DIGESTS,
    sha256=st.none() | DIGESTS,
)
BESIDE = (FileRecord("README.md", 1, "a" * 64), FileRecord("preview.png", 2, "b" * 64))


def write(out: Path, files: list[list[FileRecord]], **changes: Any) -> Manifest:
    """Write the manifest of a dataset of one sample per shard, and return it."""
    records = [ShardRecord(n, n, 1, tuple(own)) for n, own in enumerate(files)]
    (out / "shards.jsonl").unlink(missing_ok=True)
    listed = write_shard_list(out / "shards.jsonl", map(shard_line, records))
    size = sum(record.bytes for record in records)
    manifest = Manifest(plan=tiny_plan(len(files), 1), bytes=size, shards=listed, files=BESIDE)
    manifest = replace(manifest, **changes)
    (out / "dataset.json").write_bytes(seal_manifest(manifest))
    return manifest


def names(shards: int) -> list[str]:
    return [f"data/train-{number:06d}.tar" for number in range(shards)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FILES, min_size=1, max_size=5))
def test_it_is_read_as_it_was_written(tmp_path: Path, drawn: list[FileRecord]) -> None:
    files = [[file._replace(name=name, sha256=None)] for file, name in zip(drawn, names(len(drawn)), strict=True)]
    written = write(tmp_path, files)
    sink, read = open_manifest(tmp_path)
    assert replace(read, digest="") == written
    assert seal_manifest(read) == (tmp_path / "dataset.json").read_bytes()
    shards = list(read_shards(sink, read))
    assert [list(shard.files) for shard in shards] == files
    assert b"".join(map(shard_line, shards)) == (tmp_path / "shards.jsonl").read_bytes()


@given(data=st.data())
def test_no_byte_of_dataset_json_can_change(data: st.DataObject) -> None:
    plan, listed = tiny_plan(3, 1), FileRecord("shards.jsonl", 5, "c" * 64)
    sealed = seal_manifest(Manifest(plan=plan, bytes=3, shards=listed, files=BESIDE))
    assert parse_manifest(sealed, "here").plan == plan
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != sealed[at]))
    with pytest.raises(DatasetError, match=r"^here/dataset.json: .* restore it, or remove here"):
        parse_manifest(sealed[:at] + bytes([other]) + sealed[at + 1 :], "here")


TWO_WAYS = {
    "a second key": lambda data: data.replace(b'  "bytes"', b'  "bytes": 7,\n  "bytes"', 1),
    "a second digest": lambda data: data.replace(b'  "bytes"', b'  "digest": "0",\n  "bytes"', 1),
    "a second list": lambda data: data.replace(b'  "plan"', b'  "shards": [],\n  "plan"', 1),
    "other white space": lambda data: data.replace(b'": ', b'":  ', 1),
    "bytes after the end": lambda data: data + b"\n",
    "an escaped letter": lambda data: data.replace(b'"plan"', b'"\\u0070lan"', 1),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "a float": lambda data: data.replace(b'"bytes": 2,', b'"bytes": 2.0,', 1),
    "NaN": lambda data: data.replace(b'"bytes": 2,', b'"bytes": NaN,', 1),
}


@pytest.mark.parametrize("change", TWO_WAYS.values(), ids=list(TWO_WAYS))
def test_what_another_parser_might_read_otherwise_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    write(
        tmp_path,
        [[FileRecord("data/train-000000.tar", 1, "0" * 64)], [FileRecord("data/train-000001.tar", 1, "0" * 64)]],
    )
    path = tmp_path / "dataset.json"
    changed = change(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(DatasetError, match=r"dataset.json: it "):
        open_manifest(tmp_path)


def list_shards(out: Path) -> list[ShardRecord]:
    sink, manifest = open_manifest(out)
    return list(read_shards(sink, manifest))


FILE = {"name": "data/train-000000.tar", "bytes": 1, "blake3": "0" * 64}
LISTS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "a shard is missing": (lambda shards: shards[:1], "ends after 1 of 2 shards"),
    "one too many": (lambda shards: [*shards, shards[0]], "continues after the 2 shards of the plan"),
    "one is there twice": (lambda shards: [shards[0], shards[0]], "line 2: it is not shard 1 of the plan"),
    "out of order": (lambda shards: shards[::-1], "line 1: it is not shard 0 of the plan"),
    "not objects": (lambda shards: [5, 6], "line 1: 5 is not a JSON object"),
    "empty": (lambda shards: [], "ends after 0 of 2 shards"),
    "another count": (lambda s: [s[0] | {"count": 2}, s[1]], "line 1: it is not shard 0 of the plan"),
    "leads outside": (lambda s: [s[0], s[1] | {"files": [FILE | {"name": "data/../a"}]}], r"line 2.files\[0\].name"),
    "a size in words": (lambda s: [s[0], s[1] | {"files": [FILE | {"bytes": "1"}]}], r"line 2.files\[0\].bytes"),
    "no digest": (lambda s: [s[0], s[1] | {"files": [FILE | {"blake3": ""}]}], r"line 2.files\[0\].blake3"),
    "another shard's files": (lambda s: [s[0], s[1] | {"files": s[0]["files"]}], "line 2: its files are not those"),
    "another file too": (lambda s: [s[0], s[1] | {"files": s[1]["files"] * 2}], "line 2: its files are not those"),
    "no files": (lambda s: [s[0], s[1] | {"files": []}], r"line 2.files: \[\] is not a list"),
    "another total": (
        lambda s: [s[0], s[1] | {"files": [s[1]["files"][0] | {"bytes": 1}]}],
        "have 2 bytes where the manifest says 4",
    ),
}


@pytest.mark.parametrize(("change", "problem"), LISTS.values(), ids=list(LISTS))
def test_a_sealed_list_must_make_sense(tmp_path: Path, change: Any, problem: str) -> None:
    write(
        tmp_path,
        [[FileRecord("data/train-000000.tar", 1, "0" * 64)], [FileRecord("data/train-000001.tar", 3, "0" * 64)]],
    )
    assert len(list_shards(tmp_path)) == 2
    manifest = read_manifest(tmp_path)
    write_manifest(tmp_path, manifest | {"shards": change(manifest["shards"])})
    with pytest.raises(DatasetError, match=rf"shards.jsonl: .*{problem}.* its digest is valid but its contents"):
        list_shards(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b'{"count":1,"files":[{"blake3":"%s","bytes":1,"name":"data/train-000000.tar"}],"first":0,"shard":0 }\n'
        % (b"0" * 64),
        b'{"shard":0,"count":1,"files":[{"blake3":"%s","bytes":1,"name":"data/train-000000.tar"}],"first":0}\n'
        % (b"0" * 64),
        b'{"count":1,"count":1,"files":[{"blake3":"%s","bytes":1,"name":"data/train-000000.tar"}],"first":0,"shard":0}\n'
        % (b"0" * 64),
        b'{"count":1,"files":[{"blake3":"%s","bytes":1,"name":"data/train-000000.tar"}],"first":0,"shard":0}'
        % (b"0" * 64),
        b"\n",
        b"\xff\n",
        b"{" * 100_000,
        b" " * (2 << 20),
    ],
)
def test_a_line_has_one_form(tmp_path: Path, line: bytes) -> None:
    manifest = write(tmp_path, [[FileRecord("data/train-000000.tar", 1, "0" * 64)]])
    (tmp_path / "shards.jsonl").write_bytes(line)
    listed = FileRecord("shards.jsonl", len(line), blake3_bytes(line))
    (tmp_path / "dataset.json").write_bytes(seal_manifest(replace(manifest, shards=listed)))
    with pytest.raises(DatasetError, match=r"shards.jsonl: line 1: it is not"):
        list_shards(tmp_path)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: path.unlink(), "shards.jsonl is missing"),
        (lambda path: path.write_bytes(b""), "shards.jsonl has 0 bytes where"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b'"bytes":1', b'"bytes":2')),
            "shards.jsonl was changed",
        ),
    ],
)
def test_a_list_that_is_not_the_manifests_is_refused_before_any_of_it_is_used(
    tmp_path: Path, harm: Callable[[Path], object], problem: str
) -> None:
    write(tmp_path, [[FileRecord("data/train-000000.tar", 1, "0" * 64)]])
    harm(tmp_path / "shards.jsonl")
    sink, manifest = open_manifest(tmp_path)
    with pytest.raises(DatasetError, match=problem):
        next(read_shards(sink, manifest))


HEADS = [None, 5, [], {}, "x", -1, True, 2**64 - 1, [FILE], [FILE, FILE], {"name": "shards.jsonl"}]


@pytest.mark.parametrize("field", ["plan", "bytes", "shards", "files", "schema"])
@pytest.mark.parametrize("value", HEADS)
def test_every_field_of_a_sealed_head_is_checked(tmp_path: Path, field: str, value: Any) -> None:
    write(tmp_path, [[FileRecord("data/train-000000.tar", 1, "0" * 64)]])
    document = json.loads((tmp_path / "dataset.json").read_bytes())
    del document["digest"]
    (tmp_path / "dataset.json").write_bytes(seal(document | {field: value}))
    with pytest.raises(DatasetError, match=r"(dataset.json|shards.jsonl): "):
        list_shards(tmp_path)


def test_reading_and_writing_take_one_line_at_a_time(tmp_path: Path) -> None:
    count = 5_000
    tracemalloc.start()
    records = (ShardRecord(n, n, 1, (FileRecord(f"data/train-{n:06d}.tar", 1, "0" * 64),)) for n in range(count))
    listed = write_shard_list(tmp_path / "shards.jsonl", map(shard_line, records))
    manifest = Manifest(plan=tiny_plan(count, 1), bytes=count, shards=listed, files=BESIDE)
    assert sum(1 for _ in read_shards(open_sink(tmp_path, WHOLE), manifest)) == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert listed.bytes > 500_000
    assert peak < 3_500_000  # hashing takes blocks of 1 MiB
