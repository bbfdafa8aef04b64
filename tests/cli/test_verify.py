"""``gen-engine verify`` as people and scripts meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jobs import run_job
from tiny_bundle import make_tiny_bundle

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import Bundle


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "tiny.gen", size=6)


@pytest.fixture
def out(tiny: Bundle, tmp_path: Path) -> Path:
    run_job(tiny, tmp_path / "out", count=25, shard_size=10, batch=4)
    return tmp_path / "out"


def verify(*args: object) -> int:
    return main(["verify", *map(str, args)])


def test_a_sound_dataset(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(out) == 0
    output = capsys.readouterr().out
    assert f"{out}: all 3 shards are as written" in output
    assert "--regenerate K does that" in output
    assert verify(out, "--regenerate", 10, "--bundle", tiny.path) == 0
    assert "10 regenerated samples are identical" in capsys.readouterr().out


def test_json(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(out, "--regenerate", 100, "--bundle", tiny.path, "--json") == 0
    output = capsys.readouterr()
    assert output.out.count("\n") == 1
    listed = [*(out / "data").iterdir(), *(out / name for name in ("README.md", "preview.png", "shards.jsonl"))]
    size = sum(path.stat().st_size for path in listed)
    assert json.loads(output.out) == {"out": str(out), "shards": 3, "files": 12, "bytes": size, "regenerated": 25}
    assert verify(out, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_difference_is_6_and_names_the_shard(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = out / "data" / "train-00001-of-00003.images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert verify(out) == 6
    output = capsys.readouterr()
    assert "error: " in output.err
    assert "shard 1 differs: data/train-00001-of-00003.images.npy has 487 bytes, 488 were written" in output.err
    assert output.out == ""


def test_what_is_no_dataset_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tmp_path / "nowhere") == 3
    assert "nowhere does not exist" in capsys.readouterr().err
    assert verify(tmp_path) == 3
    assert "is not a gen-engine dataset" in capsys.readouterr().err
    (tmp_path / "dataset.json").write_text("{}")
    assert verify(tmp_path) == 3
    assert "does not match its own digest" in capsys.readouterr().err


def test_the_wrong_generator_is_2(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1)
    assert verify(out, "--regenerate", 1, "--bundle", other.path) == 2
    assert "give the right one with --bundle" in capsys.readouterr().err


def test_a_missing_generator_is_3_before_anything_is_hashed(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(out, "--regenerate", 1, "--bundle", tmp_path / "none.gen") == 3
    assert "none.gen: does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--regenerate", "-1"], ["--regenerate", "x"], ["--frobnicate"]])
def test_wrong_flags_are_2(out: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert verify(out, *flags) == 2
    assert "Error: " in capsys.readouterr().err
