"""Disks that are full or cannot be written: a clear refusal, and what was finished stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import recorded, run_job, scratch_files, tree

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import Bundle

JOB = ["--count", "3000", "--shard-size", "500", "--workers", "2"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KB: a job of 240 KB fits, but not beside a filler of 200 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system to fill")
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {tried.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_the_job_and_space_lets_it_go_on(
    tiny: Bundle, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_job(tiny, tmp_path / "whole", count=3000, shard_size=500)
    filler = disk / "filler"
    filler.write_bytes(bytes(200_000))  # room for five of the six shards: each worker has two at most that are open
    command = ["sample", str(tiny.path), "--out", str(disk / "out"), *JOB]
    assert main(command) == 5
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "run the same command" in said
    assert 0 < len(recorded(disk / "out")) < 6
    assert scratch_files(disk / "out") == []
    filler.unlink()
    assert main(command) == 0
    assert "resuming" in capsys.readouterr().err
    assert tree(disk / "out") == tree(tmp_path / "whole")


def test_a_disk_that_cannot_be_written(tiny: Bundle, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert main(["sample", str(tiny.path), "--out", str(disk / "out"), *JOB]) == 5
    said = capsys.readouterr().err
    assert "Read-only file system" in said
    assert "choose an --out on a file system that can be written" in said


def test_a_directory_that_may_not_be_written(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root, as which tests may run, is refused nothing
    assert main(["sample", str(tiny.path), "--out", str(tmp_path / "out"), *JOB]) == 5
    said = capsys.readouterr().err
    assert "Permission denied" in said
    assert "choose an --out that you may write to" in said
    assert not (tmp_path / "out").exists()
