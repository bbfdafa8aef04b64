"""The places that list the rooms agree with the tree: an editable install hides it when they do not."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path("cli/package/__init__.py")
"""What ``import gen_engine`` imports."""


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rooms(root: Path) -> set[str]:
    return {marker.parent.name for marker in root.glob("*/__init__.py") if marker.parent.name != "tests"}


def test_every_package_on_disk_is_listed(root: Path, rooms: set[str], pyproject: dict[str, Any]) -> None:
    on_disk = {
        ".".join(["gen_engine", *init.parent.relative_to(root).parts])
        for room in rooms
        for init in (root / room).rglob("__init__.py")
        if init != root / TOP
    }
    assert set(pyproject["tool"]["setuptools"]["packages"]) == on_disk | {"gen_engine"}


def test_no_module_lies_outside_a_package(root: Path, rooms: set[str]) -> None:
    strays = [
        str(module.relative_to(root))
        for room in rooms
        for module in (root / room).rglob("*.py")
        if not (module.parent / "__init__.py").is_file()
    ]
    assert not strays


def test_every_tool_knows_every_room(root: Path, rooms: set[str], pyproject: dict[str, Any]) -> None:
    tool = pyproject["tool"]
    full = {f"gen_engine.{room}" for room in rooms}
    assert tool["setuptools"]["package-dir"] == {"gen_engine": str(TOP.parent)} | {
        f"gen_engine.{room}": room for room in rooms
    }
    assert tool["importlinter"]["root_packages"] == ["gen_engine"]
    layers = next(c["layers"] for c in tool["importlinter"]["contracts"] if c["type"] == "layers")
    assert {name.strip() for layer in layers for name in layer.split("|")} == full
    assert set(tool["coverage"]["run"]["source_pkgs"]) == full
    assert set(tool["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]) == rooms
    assert {marker.parent.name for marker in root.glob("*/py.typed")} == rooms


def test_only_one_onnxruntime_is_installed() -> None:
    """The two wheels own the same files: the one installed last breaks the other, without a word."""
    found = sorted(name for d in distributions() if (name := d.metadata["Name"]) in {"onnxruntime", "onnxruntime-gpu"})
    assert len(set(found)) == 1, found
