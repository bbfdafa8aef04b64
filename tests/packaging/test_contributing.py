"""What CONTRIBUTING.md names exists: commands, files, and the names that its recipes use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_command_is_a_target(root: Path, text: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (root / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"`make ([a-z-]+)", text))
    assert {"test", "lint", "lock", "docs", "fuzz", "gpu"} <= named
    assert named <= targets


def test_every_file_exists(root: Path, text: str) -> None:
    paths = set(re.findall(r"`(?:python )?((?:\w+/)+[\w.]*)`", text))
    assert len(paths) > 30
    made = ("NAME", "build/")
    assert [path for path in sorted(paths) if not any(m in path for m in made) and not (root / path).exists()] == []


def test_every_name_of_a_recipe_is_in_the_file_that_it_gives(root: Path, text: str) -> None:
    """As in: `PROBED_DEVICES` in `engine/doctor.py`."""
    pairs = re.findall(r"`(\w+)`\s+(?:\(|in\s+|of\s+)`((?:\w+/)+\w+\.py)`", text)
    assert len(pairs) >= 10
    missing = [(name, path) for name, path in pairs if not re.search(rf"\b{name}\b", (root / path).read_text())]
    assert missing == []


def test_every_registry_has_a_recipe(text: str) -> None:
    recipes = re.findall(r"^### Add an? (\w+)", text, re.M)
    assert recipes == ["format", "codec", "backend", "lowering", "model", "metric", "extractor", "kind", "executor"]
