"""Which files a folder of images holds: loose ones, or one subfolder per class, links to folders followed."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from gen_engine.train.data.names import Naming, check_class_names, natural_order, shown
from gen_engine.train.errors import DataError

Identity = tuple[int, int]
"""Device and inode of a folder."""


@dataclass
class Tree:
    """The files to read, in order, and what was passed over."""

    files: list[Path] = field(default_factory=list)
    classes: list[int] | None = None
    """A class id per file, or None for a folder without subfolders."""

    class_names: tuple[str, ...] | None = None
    passed_over: Counter[str] = field(default_factory=Counter)
    """Entries that were not read, by reason."""

    examples: dict[str, str] = field(default_factory=dict)
    """One of them by reason."""

    linked: list[str] = field(default_factory=list)
    """Links to folders that were followed."""

    def pass_over(self, path: Path, reason: str) -> None:
        """Count an entry that is not read."""
        self.passed_over[reason] += 1
        self.examples.setdefault(reason, shown(path))

    def notes(self) -> tuple[str, ...]:
        """What was passed over and followed, one sentence per reason."""
        counted = []
        if self.linked:
            counted.append((f"{len(self.linked)} links to folders were followed", self.linked[0]))
        for reason, count in self.passed_over.items():
            counted.append((f"{count} {reason}", self.examples[reason]))
        return tuple(Naming(f"{text}, such as {example}", text) for text, example in counted)


def list_tree(folder: Path) -> Tree:
    """Every file to read under a folder; DataError when there are none, or files lie beside class folders.

    Classes are ordered by name, numbers in names as numbers. Files are ordered by path.
    """
    tree = Tree()
    entries = sorted(_entries(folder))
    loose: list[Path] = []
    folders: list[Path] = []
    for path in entries:
        (folders if path.is_dir() else loose).append(path)
    folders = [path for path in folders if not _hidden(path, tree)]
    loose = [path for path in loose if _is_file(path, tree)]
    folders.sort(key=lambda path: natural_order(path.name))
    by_class = [_files_below(path, folder, tree) for path in folders]
    _check_layout(folder, loose, folders, by_class)
    if loose:
        tree.files = loose
        return tree
    tree.class_names = tuple(path.name for path in folders)
    check_class_names(tree.class_names, shown(folder))
    tree.files = [file for files in by_class for file in files]
    tree.classes = [at for at, files in enumerate(by_class) for _ in files]
    return tree


def _check_layout(folder: Path, loose: list[Path], folders: list[Path], by_class: list[list[Path]]) -> None:
    filled = [path for path, files in zip(folders, by_class, strict=True) if files]
    if not loose and not filled:
        raise DataError(f"{shown(folder)} holds no images: give a folder of images, or of one subfolder per class")
    if loose and filled:
        raise DataError(
            f"{shown(folder)} has {len(loose)} files (such as {shown(loose[0].name)}) beside class folders (such as "
            f"{shown(filled[0].name)}): move the files into a class folder, or out of {shown(folder)}"
        )
    for path, files in zip(folders, by_class, strict=True):
        if not files and not loose:
            raise DataError(f"class folder {shown(path)} is empty: fill it or remove it")


def _files_below(top: Path, root: Path, tree: Tree) -> list[Path]:
    """All files under a class folder, sorted. Each real folder is entered once, so links cannot lead in circles."""
    files: list[Path] = []
    above = {_identity(root)}
    seen: set[Identity] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        identity = _identity(folder)
        if identity in above or identity in seen:
            tree.pass_over(folder, "links to a folder that was read already were not followed again")
            continue
        seen.add(identity)
        if folder.is_symlink():
            tree.linked.append(shown(folder))
        for path in _entries(folder):
            if path.is_dir():
                if not _hidden(path, tree):
                    waiting.append(path)
            elif _is_file(path, tree):
                files.append(path)
    return sorted(files)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"folder {shown(folder)} cannot be read: {error.strerror}") from error


def _hidden(path: Path, tree: Tree) -> bool:
    if path.name.startswith("."):
        tree.pass_over(path, "hidden files and folders were left alone")
        return True
    return False


def _is_file(path: Path, tree: Tree) -> bool:
    """Whether this is a regular file to read; what is not is counted."""
    if _hidden(path, tree):
        return False
    try:
        mode = path.stat().st_mode
    except OSError as error:
        reason = "links lead nowhere" if path.is_symlink() else f"files cannot be opened ({error.strerror})"
        tree.pass_over(path, f"{reason} and were left out")
        return False
    if not stat.S_ISREG(mode):
        tree.pass_over(path, "FIFOs, sockets or devices were left out")
        return False
    return True


def _identity(folder: Path) -> Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino
