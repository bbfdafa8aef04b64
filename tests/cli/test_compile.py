"""gen-engine compile, as it is typed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_bundle import make_tiny_bundle

from gen_engine.cli.main import cli
from gen_engine.engine.identity.bundle import read_bundle

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny.gen").path


def call(*words: object) -> object:
    return CliRunner().invoke(cli, ["compile", *map(str, words)], catch_exceptions=True)


def test_it_says_what_it_kept(tiny: Path) -> None:
    result = call(tiny, "--budget", "2s", "--precision", "fp32")
    assert result.exit_code == 0, result.output
    assert "kept o" in result.output
    assert "kernels: " in result.output
    assert f"next: gen-engine sample {tiny}" in result.output
    assert any(name.startswith("variants/") for name in read_bundle(tiny).files)


def test_json(tiny: Path, tmp_path: Path) -> None:
    result = call(tiny, "--budget", "2", "--precision", "fp32", "--json", "--out", tmp_path / "copy.gen")
    record = json.loads(result.stdout)
    assert record["bundle"] == str(tmp_path / "copy.gen")
    assert record["gate"]["passed"] is True
    assert record["table"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "soon"], "'soon' is not a time; write 60s or 2m"),
        (["--budget", "0s"], "'0s' must be above 0"),
        (["--min-psnr", "50"], "need an explicit --precision, not auto"),
    ],
)
def test_bad_usage(tiny: Path, words: list[str], message: str) -> None:
    result = call(tiny, *words)
    assert result.exit_code == 2
    assert message in result.output
