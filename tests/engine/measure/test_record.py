"""Baseline records: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import reseal

from gen_engine.engine.base.digests import seal
from gen_engine.engine.errors import OutputError, RecordError
from gen_engine.engine.measure.calibration import WORKLOADS
from gen_engine.engine.measure.machine import Machine
from gen_engine.engine.measure.record import BundleIdentity, Configuration, Record, read_record, write_record
from gen_engine.engine.measure.sequential_test import TARGET, Round, Series
from gen_engine.engine.measure.statistics import LOOKS, estimate


def make_record() -> Record:
    rounds = [
        Round(processor={TARGET: 5.0 + i / 100, "copy": 2.0}, elapsed={TARGET: 4.5, "copy": 1.5}, background_load=0.25)
        for i in range(12)
    ]
    return Record(
        bundle=BundleIdentity(name="tiny", digest="a" * 64, generator="b" * 64),
        timed=Configuration(
            backend="onnxruntime",
            version="1.22.0",
            device="cpu",
            precision="fp32",
            batch=4,
            origin="canonical",
            graph="c" * 64,
        ),
        samples="d" * 64,
        machine=Machine(
            processor="a processor",
            isa=("avx2",),
            threads=2,
            system="Linux x86_64",
            gpus=(),
            python="3.11.2",
            libraries={"numpy": "2"},
        ),
        series=Series(weights={"copy": 1.0}, rounds=rounds),
        made="2026-11-24T12:00:00+00:00",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_record(tmp_path / "baseline.json", make_record())
    return tmp_path / "baseline.json"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "baseline.json"
    write_record(path, make_record())
    assert read_record(path) == make_record()
    assert read_record(path).peers == ("copy",)
    assert [p.name for p in path.parent.iterdir()] == ["baseline.json"]


def test_damage_is_detected(path: Path) -> None:
    data = path.read_bytes()
    for damaged in (data.replace(b"5.03", b"5.04", 1), data[:-20], b"", b"[]", b'"x"', b"\xff\xfe"):
        path.write_bytes(damaged)
        with pytest.raises(RecordError, match=r"baseline .*\. Measure a new baseline with --save"):
            read_record(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 3}, "schema 3, and this gen-engine reads 2; update gen-engine"),
        ({"schema": 1}, "schema 1, and this gen-engine reads 2; it was measured by an older version. Measure a new"),
        ({"schema": 2.0}, r"schema: 2.0 is not an integer from 2 to 2"),
        ({"kind": "holiday"}, 'kind: "holiday" is not one of gen-engine bench'),
        ({"bundle": {"name": "x"}}, 'bundle: field "digest" is missing'),
        ({"bundle": None}, "bundle: null is not a JSON object"),
        ({"timed.batch": 0}, "timed.batch: 0 is not an integer from 1 to"),
        ({"timed.graph": "c" * 63}, "timed.graph: "),
        ({"samples": 7}, "samples: 7 is not text"),
        ({"machine": [1]}, r"machine: \[1\] is not a JSON object"),
        ({"machine.libraries": {"numpy": 2}}, r'libraries\["numpy"\]: 2 is not printable text'),
        ({"made": "today\x1b[2J"}, "made: "),
        ({"surplus": 1}, 'unknown field "surplus"'),
        ({"series": []}, "series: "),
        ({"series.background_load": [0.5]}, "series.background_load: .* is not a list of 12 to 1,200 items"),
        ({"series.background_load": [2.0] * 12}, r"background_load\[0\]: 2.0 is not from 0 to 1"),
        ({"series.background_load": [0.5] * 13}, "processor: .* is not a list of 13 to 13 items"),
        ({"series.weights": {"matmul-fp32": 1.0}}, "weights: .*: they must be of copy and sum to 1"),
        ({"series.weights": {}}, "weights: {}: they must be of copy and sum to 1"),
        ({"series.weights": {"copy": 0.5}}, "weights: .*: they must be of copy and sum to 1"),
        ({"series.weights": {"copy": "1"}}, "weights"),
        ({"series.weights": {TARGET: 1.0}}, "weights: .*: they must be of copy and sum to 1"),
        ({"series.processor": [[1.0, True]] * 12}, r"processor\[0\]\[1\]: true is not from -100 to 100"),
        ({"series.processor": [[1.0, 1e300]] * 12}, "1e\\+300 is not from -100 to 100"),
        ({"series.processor": [[1.0]] * 12}, r"processor\[0\]: \[1.0\] is not a list of 2 to 2 items"),
        ({"series.workloads": ["copy", "copy"]}, "workloads: copy, copy: it must be 'target' and others, each once"),
        ({"series.workloads": ["copy", "small-kernels"]}, "it must be 'target' and others, each once"),
        ({"series.workloads": [TARGET, "nosuch"]}, r'workloads\[1\]: "nosuch" is not one of target, matmul-fp32'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_sealed_record_with_an_invalid_field(path: Path, changes: dict[str, Any], message: str) -> None:
    document = json.loads(path.read_bytes())
    changed = {}
    for name, value in changes.items():
        field, _, inner = name.partition(".")
        changed[field] = document[field] | {inner: value} if inner else value
    reseal(path, changed)
    with pytest.raises(RecordError, match=message) as caught:
        read_record(path)
    assert caught.value.exit_code == 3


VALUES: list[Any] = [
    *(None, True, 0, -1, 2**63, 0.5, -0.0, 1e308, "", "x", "a\nb", "\x00", "\x1b[2J", "9" * 64, "a" * 10_000),
    *([], [[]], {}, {"a": 1}, [1] * 12, [[1, 1]] * 12, {"copy": 1}, "matmul-fp32", "2026-11-24T12:00:00+00:00"),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_and_resealed_record_is_refused_or_usable(path: Path, data: st.DataObject) -> None:
    write_record(path, make_record())
    document = json.loads(path.read_bytes())
    del document["digest"]
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, key = data.draw(st.sampled_from(list(places(document)) or [("kind",)]))
        parent = document
        for step in parents:
            parent = parent[step]
        match data.draw(st.sampled_from(["set", "set", "drop", "add", "swap"])):
            case "drop" if isinstance(parent, list) or key in parent:
                del parent[key]
            case "add" if isinstance(parent, dict):
                parent[data.draw(st.sampled_from(["", "extra", "a\nb", "digest"]))] = copy.deepcopy(document)
            case "swap":
                parent[key] = copy.deepcopy(data.draw(st.sampled_from([document, parent, str(parent)])))
            case _:
                parent[key] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
    path.write_bytes(seal(document))
    with contextlib.suppress(RecordError):
        record = read_record(path)
        assert set(record.peers) <= set(WORKLOADS)
        assert LOOKS[0] <= len(record.series.rounds) <= LOOKS[-1]
        score = estimate(record.series.processor())
        assert np.isfinite([score.log, score.error, score.dof]).all()
        write_record(path, record)
        assert read_record(path) == record


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"cannot be read \(No such file or directory\); make it with --save"):
        read_record(tmp_path / "none.json")


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --save"):
        write_record(tmp_path / "file" / "baseline.json", make_record())
