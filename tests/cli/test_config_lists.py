"""A recipe lists the values of a flag that repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gen_engine.cli.main import main


def test_each_value_of_a_list_is_a_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n" + "1,2,3\n4,5,6\n" * 30)
    (tmp_path / "r.toml").write_text('model = "trees"\ncolumn = ["a=category", "b=drop"]\n')
    command = ["train", "--config", str(tmp_path / "r.toml"), "--data", str(tmp_path / "t.csv"), "-q", "--json"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)["columns"] == {"a": "category", "c": "integer"}
    assert main([*command, "--out", str(tmp_path / "other"), "--column", "c=category"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"] == {"a": "integer", "b": "integer", "c": "category"}


def test_a_list_for_a_flag_that_does_not_repeat_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.toml").write_text('target = ["a", "b"]\n')
    assert main(["train", "--config", str(tmp_path / "r.toml"), "--data", "t.csv", "--out", str(tmp_path / "run")]) == 2
    assert "'target' must be one value, not ['a', 'b']" in " ".join(capsys.readouterr().err.split())
