"""A revision in its own environment: its files, a venv, and the same versions of packages as in this environment.

The working tree is built in the same way as the other revision: an editable install, or an environment with a hundred
more packages in it, starts more slowly.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

EXTRAS = "jpeg,openvino,parquet"
"""Extras that the workloads need. A revision without one of them is installed without it."""

_READY = "ready"


class BuildFailed(Exception):
    """A revision cannot be installed."""


class NoSuchRevision(BuildFailed):
    """The repository has no such revision."""


@dataclass(frozen=True)
class Environment:
    """A revision that can be run."""

    name: str
    """For reports: ``working tree``, or the revision as requested and its commit."""

    python: Path
    """Its interpreter."""


def pins() -> str:
    """Return the versions of all packages of this environment as pip constraints."""
    versions = {(one.metadata["Name"], one.version) for one in distributions() if one.metadata["Name"] != "gen-engine"}
    # A local version (torch 2.13.0+cpu) may be missing from another index; none of the extras needs one.
    return "".join(f"{name}=={number}\n" for name, number in sorted(versions) if "+" not in number)


def build_revision(root: Path, revision: str, cache: Path) -> Environment:
    """Return a revision of the repository at ``root``, built unless the cache has it.

    Raises:
        NoSuchRevision: the repository has no such revision.
        BuildFailed: with the output of git or pip.
    """
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    try:
        commit = _output(command, root, revision)
    except BuildFailed as error:
        raise NoSuchRevision(f"REV={revision}: no such commit, branch or tag here; git fetch it first") from error
    name = f"{revision} ({commit[:12]})" if not commit.startswith(revision) else commit[:12]
    folder = cache / f"{commit[:12]}-{_key()}"
    if not (folder / _READY).exists():
        source = _emptied(folder) / "source"
        archive = folder / "source.tar"
        _output(["git", "archive", "--output", str(archive), commit], root, name)
        with tarfile.open(archive) as tar:
            tar.extractall(source, filter="data")
        archive.unlink()
        _install(folder, source, name)
    return Environment(name, _python(folder))


def build_working_tree(root: Path, cache: Path) -> Environment:
    """Return the working tree as it is now, without ignored files. Its installed packages stay in the cache.

    Raises:
        BuildFailed: with the output of git or pip.
    """
    name = "working tree"
    folder = cache / f"working-tree-{_key()}"
    source = _emptied(folder / "source")
    listed = _output(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], root, name)
    for file in filter(None, listed.split("\0")):
        if (root / file).is_file():  # a deleted file is listed until the deletion is committed
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / file, source / file)
    _install(folder, source, name)
    return Environment(name, _python(folder))


def prune(cache: Path, *used: Environment) -> None:
    """Remove all other environments from the cache: each takes most of a gigabyte."""
    for folder in cache.iterdir():
        if (folder / _READY).exists() and not any(folder in one.python.parents for one in used):
            shutil.rmtree(folder)


def _key() -> str:
    """Return a digest of what a built environment depends on besides the revision."""
    return hashlib.sha256(f"{sys.version}{EXTRAS}{pins()}".encode()).hexdigest()[:8]


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _install(folder: Path, source: Path, name: str) -> None:
    constraints = folder / "constraints.txt"
    constraints.write_text(pins(), encoding="utf-8")
    if not _python(folder).exists():
        _output([sys.executable, "-m", "venv", str(folder / "env")], folder, name)
    pip = [str(_python(folder)), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    _output([*pip, f"{source}[{EXTRAS}]", "--constraint", str(constraints)], folder, name)
    # Again, without dependencies: pip does not reinstall a package whose version has not changed.
    _output([*pip, str(source), "--no-deps", "--force-reinstall"], folder, name)
    (folder / _READY).touch()


def _python(folder: Path) -> Path:
    return folder / "env" / "bin" / "python"


def _output(command: Sequence[str], where: Path, name: str) -> str:
    """Run a command; return its output."""
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stderr or done.stdout).strip().splitlines()[-12:] or ["(no output)"]
        raise BuildFailed(f"{name} cannot be built: {' '.join(command[:4])} … failed:\n  " + "\n  ".join(output))
    return done.stdout.strip()
