"""``gen-engine sample --part`` and ``gen-engine finish`` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gen_engine.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: object) -> tuple[int, str, str]:
        code = main([str(arg) for arg in args])
        return code, *capsys.readouterr()

    return call


def part(out: Path, which: str) -> list[object]:
    return ["sample", "-n", 50, "--shard-size", 20, "--workers", 1, "-o", out, "--part", which]


def test_parts_and_finish_say_how_far_the_dataset_is(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, output, _ = run(*part(out, "1/2"))
    assert code == 0
    assert f"MB in part 1/2 of {out}" in output
    assert "1 of 3 shards are not finished: 1; the part that makes the last one finishes the dataset" in output
    code, output, errors = run("finish", out)
    assert (code, output) == (5, "")
    assert "1 of 3 shards are not finished: 1; run their part, or the job, again" in errors
    code, output, _ = run(*part(out, "2/2"), "--json")
    record = json.loads(output)
    assert (record["part"], record["finished"], record["samples"], record["rendered"]) == ("2/2", True, 20, 20)
    code, output, _ = run("finish", out)
    assert (code, output.splitlines()[0]) == (0, f"{out} is finished: 50 samples, 0.0 MB")
    record = json.loads(run("finish", out, "--json")[1])
    assert (record["samples"], record["out"]) == (50, str(out))
    assert run("finish", out, "-q") == (0, "", "")
    assert "nothing left to do" in run(*part(out, "1/2"))[1]


@pytest.mark.parametrize("which", ["0/2", "3/2", "x"])
def test_a_part_that_there_is_none_of(run: Run, tmp_path: Path, which: str) -> None:
    code, _, errors = run(*part(tmp_path / "out", which))
    assert code == 2
    assert "the first of four is 1/4" in errors
    assert not (tmp_path / "out").exists()


def test_finish_of_something_else(run: Run, tmp_path: Path) -> None:
    code, _, errors = run("finish", tmp_path)
    assert code == 3
    assert "holds neither a gen-engine job nor a dataset" in errors
