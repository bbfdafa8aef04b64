"""The lock of the development environment is the one that pyproject.toml and constraints.txt ask for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib")  # Python 3.11 and newer

NEVER = ("onnxruntime", "onnxruntime-gpu")
"""Both own the same files, so an environment that has both has neither."""


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def locked(root: Path) -> dict[str, list[Requirement]]:
    pins: dict[str, list[Requirement]] = {}
    for line in (root / "requirements-dev.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def requested(project: dict, root: Path) -> Iterator[Requirement]:
    """Yield what the development environment asks for: the package, its extras in the Makefile, the group ``dev``."""
    extras = re.search(r"^EXTRAS := (.*)$", (root / "Makefile").read_text(), re.MULTILINE)[1].split()
    names = [*project["project"]["dependencies"]]
    for extra in extras:
        names += project["project"]["optional-dependencies"][extra]
    for group in ("dev", "docs", "peers"):
        names += [entry for entry in project["dependency-groups"][group] if isinstance(entry, str)]
    for name in names:
        requirement = Requirement(name)
        if requirement.name != "gen-engine":  # an extra that includes another
            yield requirement


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def test_every_requirement_is_locked_in_its_range(project, locked, root):
    torch = Requirement(re.search(r"^torch==.*$", (root / "constraints.txt").read_text(), re.MULTILINE)[0])
    for requirement in requested(project, root):
        if requirement.name == "torch":  # last, with its own dependencies: see the Makefile
            assert requirement.specifier.contains(next(iter(torch.specifier)).version)
            continue
        pins = locked.get(canonicalize_name(requirement.name), [])
        assert pins, f"{requirement.name} is not in requirements-dev.txt: run make lock"
        for pin in pins:
            version = next(iter(pin.specifier)).version
            assert requirement.specifier.contains(version), f"{pin} does not fit {requirement}: run make lock"


def test_every_pin_by_hand_is_in_the_lock(locked, root):
    for line in (root / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#") and not line.startswith("torch=="):
            assert line in {f"{pin.name}{pin.specifier}" for pin in locked[canonicalize_name(Requirement(line).name)]}


def test_the_lock_names_exact_versions_only(locked):
    for pins in locked.values():
        for pin in pins:
            assert [clause.operator for clause in pin.specifier] == ["=="], pin


def test_the_lock_has_one_onnxruntime_and_no_cuda_libraries_of_torch(locked, project):
    assert "torch" not in locked  # its CPU build or its CUDA build: the machine's choice
    assert not set(project["tool"]["uv"]["exclude-dependencies"]) & locked.keys()
    assert sum(any(applies(pin) for pin in locked.get(name, [])) for name in NEVER) == 1


def test_the_environment_is_the_lock(locked, root):
    """What is installed here is what the lock says: nobody added to it by hand."""
    from importlib.metadata import PackageNotFoundError, version

    for name, pins in locked.items():
        (pin,) = [pin for pin in pins if applies(pin)] or [None]
        if pin is None:
            continue
        try:
            installed = version(name)
        except PackageNotFoundError:
            pytest.fail(f"{name} is in the lock and not installed: remove .venv/.dev-installed and run make test")
        assert pin.specifier.contains(installed), f"{name} {installed} is installed, {pin} is locked"


def test_no_index_or_path_is_in_the_lock(root):
    text = (root / "requirements-dev.txt").read_text()
    assert "://" not in text
    assert "find-links" not in text
    assert subprocess.run(["git", "check-ignore", "-q", "requirements-dev.txt"], cwd=root, check=False).returncode != 0
