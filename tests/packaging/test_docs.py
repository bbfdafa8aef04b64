"""What the documentation names exists: files, the functions and classes in them, and the targets of links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

FENCE = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)
"""Code blocks hold the reader's own files."""

SOURCE = re.compile(r"`(?:python )?([\w./<>-]+\.(?:py|cu))(?::([\w.]+))?`")
FOLDER = re.compile(r"`((?:engine|export|train|cli|tests|benchmarks|examples|docs)(?:/[\w.-]+)*/)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDER = "NAME"
"""In a path of a recipe: the file that its reader writes."""


def documents(root: Path) -> list[Path]:
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]


def defined(path: Path) -> set[str]:
    """Return the names that a module defines: functions, constants, classes, and ``Class.method``."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def faults(text: str, document: Path, root: Path) -> Iterator[str]:
    """Return what a document names and is not there.

    A path is relative to the repository. A file name alone is in the folder of the path before it, as in
    `tests/cli/test_main.py`, `test_pipe.py`.
    """
    text = FENCE.sub("", text)
    folder = PurePosixPath()
    for path, name in SOURCE.findall(text):
        if PLACEHOLDER in path:
            continue
        relative = PurePosixPath(path) if "/" in path else folder / path
        folder = relative.parent
        if not (root / relative).is_file():
            yield f"no file {relative}"
        elif name and name not in defined(root / relative):
            yield f"no {name} in {relative}"
    yield from (f"no folder {path}" for path in FOLDER.findall(text) if not (root / path).is_dir())
    for target in LINK.findall(text):
        path = target.partition("#")[0]
        if path and "://" not in target and not (document.parent / path).exists():
            yield f"no target {target}"


def test_what_is_named_exists(root: Path) -> None:
    differences = {
        str(document.relative_to(root)): missing
        for document in documents(root)
        if (missing := list(faults(document.read_text(encoding="utf-8"), document, root)))
    }
    assert differences == {}


def test_the_design_names_the_functions_that_it_follows(root: Path) -> None:
    named = [name for _, name in SOURCE.findall((root / "docs/design.md").read_text(encoding="utf-8")) if name]
    assert len(named) >= 40


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`engine/verify.py`, `reader.py:Dataset`", []),
        ("`cli/main.py`, `reader.py`", ["no file cli/reader.py"]),
        ("`engine/reader.py:DataSet`", ["no DataSet in engine/reader.py"]),
        ("`engine/run/threads.py:ThreadExecutor.run`", []),
        ("`engine/run/threads.py:ThreadExecutor.start`", ["no ThreadExecutor.start in engine/run/threads.py"]),
        ("`engine/nowhere/`", ["no folder engine/nowhere/"]),
        ("[a](docs/index.md#top), [b](docs/nothing.md)", ["no target docs/nothing.md"]),
        ("[a](https://example.org/nothing.md)", []),
        ("```sh\n`gone.py`\n```\n", []),
    ],
)
def test_what_is_not_there_is_found(root: Path, text: str, missing: list[str]) -> None:
    assert list(faults(text, root / "README.md", root)) == missing
