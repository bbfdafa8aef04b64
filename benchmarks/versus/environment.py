"""A revision in an environment of its own: its files, a venv, and the very versions of packages that are used here.

Both revisions are built in the same way, the one in the working tree too: an editable install, or an environment with a
hundred more packages in it, starts more slowly.
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
"""What the workloads need beyond the base. A revision without one of them is installed without it."""

_READY = "ready"


class BuildFailed(Exception):
    """A revision cannot be installed."""


class NoSuchRevision(BuildFailed):
    """The repository does not have it."""


@dataclass(frozen=True)
class Environment:
    """A revision that can be run."""

    name: str
    """For people: ``working tree``, or the revision as it was asked for and its commit."""

    python: Path
    """Its interpreter."""


def pins() -> str:
    """Return the versions of all packages of this environment, as pip's constraints."""
    found = {(one.metadata["Name"], one.version) for one in distributions() if one.metadata["Name"] != "gen-engine"}
    # A local version (torch 2.13.0+cpu) names a wheel that another index might not have; none of the extras needs one.
    return "".join(f"{name}=={number}\n" for name, number in sorted(found) if "+" not in number)


def build_revision(root: Path, revision: str, cache: Path) -> Environment:
    """Return a revision of the repository at ``root``, built once a cache.

    Raises:
        NoSuchRevision: there is none of that name.
        BuildFailed: with what git or pip said.
    """
    asked = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    try:
        commit = _output(asked, root, revision)
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
    """Return the repository's files as they are now, without those that git ignores. Its packages stay in the cache.

    Raises:
        BuildFailed: with what git or pip said.
    """
    name = "working tree"
    folder = cache / f"working-tree-{_key()}"
    source = _emptied(folder / "source")
    listed = _output(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], root, name)
    for file in filter(None, listed.split("\0")):
        if (root / file).is_file():  # one that is deleted but not committed is still listed
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / file, source / file)
    _install(folder, source, name)
    return Environment(name, _python(folder))


def prune(cache: Path, *used: Environment) -> None:
    """Remove what earlier runs built there, other than these: an environment takes most of a gigabyte."""
    for folder in cache.iterdir():
        if (folder / _READY).exists() and not any(folder in one.python.parents for one in used):
            shutil.rmtree(folder)


def _key() -> str:
    """Return what a built environment depends on besides the revision."""
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
    # Again and alone: pip takes a version that it has already for the one that it is given.
    _output([*pip, str(source), "--no-deps", "--force-reinstall"], folder, name)
    (folder / _READY).touch()


def _python(folder: Path) -> Path:
    return folder / "env" / "bin" / "python"


def _output(command: Sequence[str], where: Path, name: str) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-12:] or ["(it said nothing)"]
        raise BuildFailed(f"{name} cannot be built: {' '.join(command[:4])} … failed:\n  " + "\n  ".join(said))
    return done.stdout.strip()
