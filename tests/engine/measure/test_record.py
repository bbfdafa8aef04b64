"""Records: what is written is read, and nothing else is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from gen_engine.engine.base.digests import seal
from gen_engine.engine.errors import OutputError, RecordError
from gen_engine.engine.measure.guard import TARGET, Round, Series
from gen_engine.engine.measure.record import Record, read_record, write_record


def make_record() -> Record:
    rounds = [
        Round(processor={TARGET: 5.0 + i / 100, "copy": 2.0}, elapsed={TARGET: 4.5, "copy": 1.5}, others=0.25)
        for i in range(12)
    ]
    return Record(
        bundle={"name": "tiny", "digest": "a" * 64, "generator": "b" * 64},
        timed={"backend": "onnxruntime", "graph": "c" * 64, "batch": 4},
        samples="d" * 64,
        machine={"processor": "this one", "threads": 2, "libraries": {"numpy": "2"}},
        series=Series(weights={"copy": 1.0}, rounds=rounds),
        made="2026-11-24T12:00:00+00:00",
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "baseline.json"
    write_record(path, make_record())
    assert read_record(path) == make_record()
    assert read_record(path).peers == ("copy",)
    assert [p.name for p in path.parent.iterdir()] == ["baseline.json"]


def test_damage_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_record(path, make_record())
    data = path.read_bytes()
    for bad in (data.replace(b"5.03", b"5.04", 1), data[:-20], b"", b"[]", b'"x"', b"\xff\xfe"):
        path.write_bytes(bad)
        with pytest.raises(RecordError, match=r"baseline .* no record of gen-engine bench"):
            read_record(path)


def rewritten(path: Path, **changes: object) -> None:
    """Change fields of a record, and seal it again."""
    document = json.loads(path.read_bytes())
    del document["digest"]
    for name, value in changes.items():
        where, *rest = name.split("__")
        if rest:
            document[where][rest[0]] = value
        else:
            document[where] = value
    path.write_bytes(seal(document))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "schema 2, and this gen-engine reads 1; update gen-engine"),
        ({"schema": 0}, "schema 0, and this gen-engine reads 1; measure it again with --save"),
        ({"kind": "holiday"}, "its kind is 'holiday'"),
        ({"bundle": {"name": "x"}}, "bundle.digest None"),
        ({"machine": [1]}, r"machine \[1\]"),
        ({"series__others": [0.5]}, "unequal lengths"),
        ({"series__others": [2.0] * 12}, "others 2.0"),
        ({"series__weights": {"matmul": 1.0}}, "round "),
        ({"series__weights": {"copy": "1"}}, "weights"),
        ({"series__processor": [[1.0, True]] * 12}, "round "),
        ({"series__processor": [[1.0]] * 12}, "no record"),
        ({"series__members": ["copy", "copy"]}, "round "),
        ({"series": []}, "no record"),
    ],
)
def test_a_record_that_cannot_be_right(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    path = tmp_path / "baseline.json"
    write_record(path, make_record())
    rewritten(path, **changes)
    with pytest.raises(RecordError, match=said) as caught:
        read_record(path)
    assert caught.value.exit_code == 3


def test_a_record_holds_no_infinity() -> None:
    record = make_record()
    bad = Round(processor={TARGET: math.inf, "copy": 2.0}, elapsed={TARGET: 4.5, "copy": 1.5}, others=0.0)
    with pytest.raises(ValueError, match="round"):
        replace(record, series=Series(weights={}, rounds=[*record.series.rounds, bad]))
    with pytest.raises(ValueError, match="3 rounds are too few"):
        replace(record, series=Series(weights={}, rounds=record.series.rounds[:3]))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"cannot be read \(No such file or directory\); make it with --save"):
        read_record(tmp_path / "none.json")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --save"):
        write_record(tmp_path / "file" / "baseline.json", make_record())
