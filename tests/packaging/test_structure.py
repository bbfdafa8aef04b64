"""The structure of the package, counted: what import-linter does not say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("train", "export", "evaluate", "engine", "cli")
MAX_ENGINE_EDGES = 90
MAX_FUNCTION_LINES = 50
"""Without the docstring: that of ``write_dataset`` describes twenty parameters."""


def modules(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def engine_edges(root: Path) -> set[tuple[str, str]]:
    """Return which unit at the top of engine/, a module or a package, imports which other."""
    engine = root / "engine"
    units = {path.stem for path in engine.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    edges = set()
    for path, tree in modules(engine):
        unit = path.relative_to(engine).parts[0].removesuffix(".py")
        for name in imported(tree):
            if name.startswith("gen_engine.engine.") and (other := name.split(".")[2]) in units - {unit}:
                edges.add((unit, other))
    return {(one, other) for one, other in edges if one not in ("__init__", "testing")}


def test_the_units_of_the_engine_know_few_others(root):
    edges = engine_edges(root)
    assert ("commit", "sinks") in edges  # it counts
    assert len(edges) <= MAX_ENGINE_EDGES, sorted(edges)


def lines_of(function: ast.FunctionDef) -> int:
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


@pytest.mark.parametrize("package", PACKAGES)
def test_every_function_fits_on_a_screen(root, package):
    long = {
        f"{path.relative_to(root)}:{node.lineno} {node.name}": lines_of(node)
        for path, tree in modules(root / package)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and lines_of(node) > MAX_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_called_utils(root, package):
    assert not [
        path for path, _ in modules(root / package) if path.stem in ("utils", "util", "helpers", "misc", "common")
    ]
