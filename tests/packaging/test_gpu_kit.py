"""``make gpu`` where there is no GPU, and the page that is made from its record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu
import gpu_parts
import pytest
from gpu_parts.contract import Findings, Missing, Part
from gpu_parts.report import replaced


def test_the_page_is_that_of_the_record(root: Path) -> None:
    page = (root / "docs/gpu.md").read_text("utf-8")
    assert replaced(page, json.loads((root / "docs/gpu-record.json").read_text("utf-8"))) == page


def test_a_page_without_its_marks(root: Path) -> None:
    with pytest.raises(ValueError, match="lacks"):
        replaced("# GPUs\n", json.loads((root / "docs/gpu-record.json").read_text("utf-8")))


def test_without_a_gpu_it_says_what_it_would_do(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "benchmarks/gpu.py"), "--record", str(tmp_path / "record.json")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    # The process finds the package as this one does, or not at all: what it says needs none of it.
    assert done.returncode == 4, done.stderr
    assert all(part.name in done.stdout for part in gpu_parts.PARTS)
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize(
    ("run", "status", "reason"),
    [
        (lambda found: found.check("a", True), "passed", ""),
        (lambda found: found.check("a", False), "failed", "a"),
        (lambda found: found.figure("f", 12345.6, "s"), "passed", ""),
    ],
)
def test_how_a_part_ends(tmp_path: Path, run: Any, status: str, reason: str) -> None:
    found = Findings(tmp_path / "found.json")
    run(found)
    found.end("passed", "")
    kept = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert kept["ended"] == {"status": "passed", "reason": ""}
    assert gpu.settled(kept, None, 60) == {"status": status, "reason": reason}


def test_a_part_that_dies_keeps_what_it_found(tmp_path: Path) -> None:
    Findings(tmp_path / "found.json").check("a", True)
    kept = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert gpu.settled(kept, -11, 60) == {"status": "failed", "reason": "its process ended with code -11"}
    assert gpu.settled(kept, None, 60) == {"status": "failed", "reason": "not done after 60 s"}


def test_what_a_part_lacks_makes_it_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(found: Findings) -> None:
        raise Missing("no such library")

    monkeypatch.setattr(gpu, "import_module", lambda name: SimpleNamespace(run=lacks))
    monkeypatch.setattr(gpu.os, "_exit", lambda code: None)
    gpu._be_part(Part(name="p", what="", seconds=1, module="m"), tmp_path / "found.json")
    ended = json.loads((tmp_path / "found.json").read_text("utf-8"))["ended"]
    assert ended == {"status": "missing", "reason": "no such library"}
