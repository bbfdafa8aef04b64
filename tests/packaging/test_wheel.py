"""The built wheel and sdist: what is in them, and that the wheel works in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOMS = ("train", "export", "evaluate", "engine", "cli")
CORE = "gen_engine/engine/native/_core.abi3.so"
CODE_AND_DATA = ("*.py", "*.cu", "py.typed", "shipped/*.gen/**/*", "recipes/*.toml", "*.jinja")


def run(*command: str | Path, cwd: Path) -> str:
    """Run it with nothing of the source tree on its path; return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shipped_files(root: Path) -> set[str]:
    """Return the files of the rooms that users need, relative to the repository."""
    return {
        str(path.relative_to(root))
        for room in ROOMS
        for pattern in CODE_AND_DATA
        for path in (root / room).rglob(pattern)
        if path.is_file() and path.parent != root / "cli" / "package"  # which is gen_engine itself
    }


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build in a copy, decoys at its root included, so that no earlier build's leavings are picked up."""
    tree, dist = tmp_path_factory.mktemp("tree") / "gen-engine", tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, tree / name)
    (tree / "decoy.py").write_text("raise RuntimeError\n")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, cwd=tree)
    return dist


def test_the_wheel_holds_the_rooms_and_nothing_else(root: Path, built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"gen_engine/{name}" for name in shipped_files(root)} | {
        "gen_engine/__init__.py",
        CORE,
    }
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]


def test_the_sdist_builds_the_same_and_carries_the_licence(root: Path, built: Path) -> None:
    """The wheel above was built from this sdist, so here only what a wheel does not show."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert shipped_files(root) | {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert {f"engine/native/src/{path.name}" for path in (root / "engine/native/src").iterdir()} <= names
    assert "decoy.py" not in names


def test_the_core_needs_no_newer_c_library_than_manylinux_2_17(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(CORE, tmp_path)
    symbols = (tmp_path / CORE).read_bytes()
    versions = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_(\d+\.\d+)", symbols)}
    assert versions, "it links to the C library"
    assert max(versions) <= (2, 17)


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in a new environment, and lend it this one's libraries.

    They come in through a plain path line. Python does not run the .pth files of a folder added like that, so this
    environment's editable install does not come with them.
    """
    home = tmp_path_factory.mktemp("environment")
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    (Path(site) / "lent.pth").write_text("\n".join({sysconfig.get_path(p) for p in ("purelib", "platlib")}) + "\n")
    return home


IMPORT_ALL = """
import importlib, json, pkgutil
found = {}
for room in ("cli", "engine", "train", "export", "evaluate"):
    package = importlib.import_module(f"gen_engine.{room}")
    for name in [package.__name__, *(m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."))]:
        found[name] = importlib.import_module(name).__file__
print(json.dumps(found))
"""


def test_every_module_imports_from_the_wheel(root: Path, environment: Path) -> None:
    found = json.loads(run(environment / "bin" / "python", "-c", IMPORT_ALL, cwd=environment))
    modules = [name for name in shipped_files(root) if name.endswith(".py")]
    assert len(found) == len(modules) + 1  # the compiled core
    assert all(Path(file).is_relative_to(environment) for file in found.values()), found


def test_its_command_answers(environment: Path) -> None:
    assert "Exit codes:" in run(environment / "bin" / "gen-engine", "--help", cwd=environment)
    version = run(
        environment / "bin" / "python", "-c", "import gen_engine; print(gen_engine.__version__)", cwd=environment
    )
    assert run(environment / "bin" / "gen-engine", "--version", cwd=environment) == f"gen-engine {version}"


def test_it_samples_what_it_ships(root: Path, environment: Path) -> None:
    if not list((root / "engine" / "shipped").glob("*.gen")):
        pytest.skip("no bundle in engine/shipped yet")
    command = environment / "bin" / "gen-engine"
    record = run(command, "sample", "--count", "20", "--out", "demo", "--quiet", "--json", cwd=environment)
    assert json.loads(record)["implementation"] == "native"
    assert (environment / "demo" / "dataset.json").is_file()


def other_pythons() -> list[str]:
    """Return the Pythons on this machine that are newer than the limited API."""
    names = [f"python3.{minor}" for minor in range(12, 20)]
    folders = [*os.environ["PATH"].split(os.pathsep), *map(str, Path(sys.base_prefix).parent.glob("*/bin"))]
    found = {name: shutil.which(name, path=os.pathsep.join(reversed(folders))) for name in names}
    works = {
        path: subprocess.run([path, "--version"], capture_output=True).returncode == 0
        for path in found.values()
        if path
    }
    return [path for path, answers in works.items() if answers]


def test_one_build_serves_every_later_python(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(CORE, tmp_path)
    folder = (tmp_path / CORE).parent
    if not (pythons := other_pythons()):
        pytest.skip("no Python above 3.11 is installed here")
    for python in pythons:
        assert run(python, "-c", "import _core; print(_core.crc32c(b'123456789'))", cwd=folder) == "3808858755\n"


@pytest.fixture(scope="module")
def without_compiler(root: Path, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that was built from the sdist on a machine without a C compiler."""
    (sdist,) = built.glob("*.tar.gz")
    tree, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("pure")
    with tarfile.open(sdist) as archive:
        archive.extractall(tree, filter="data")
    (source,) = tree.iterdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist)]
    done = subprocess.run(
        command, cwd=source, env=environment | {"CC": "/bin/false"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = dist.glob("*.whl")
    return wheel


def test_without_a_compiler_the_wheel_is_a_pure_one(without_compiler: Path) -> None:
    """Not one that its name calls compiled: pip would prefer it everywhere."""
    assert without_compiler.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(without_compiler) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]


def test_without_a_compiler_the_samples_are_the_same(without_compiler: Path, environment: Path, tmp_path: Path) -> None:
    python, home = environment / "bin" / "python", tmp_path / "pure"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    pip = (sys.executable, "-m", "pip", "--python", home / "bin" / "python", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", without_compiler, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    lent = home / site.relative_to(environment) / "lent.pth"
    shutil.copy(site / "lent.pth", lent)
    for way in (environment, home):
        options = ("--count", "200", "--format", "webdataset", "--out", tmp_path / f"{way.name}-out", "--json")
        record = json.loads(run(way / "bin" / "gen-engine", "sample", *options, cwd=tmp_path))
        assert record["implementation"] == ("native" if way == environment else "numpy")
    ours, theirs = (tmp_path / f"{way.name}-out" / "data" for way in (environment, home))
    assert [path.read_bytes() for path in sorted(ours.iterdir())] == [
        path.read_bytes() for path in sorted(theirs.iterdir())
    ]
    doctor = subprocess.run([home / "bin" / "gen-engine", "doctor"], cwd=tmp_path, capture_output=True, text=True)
    (line,) = [line for line in doctor.stdout.splitlines() if "compiled core" in line]
    assert "it was not built when gen-engine was installed" in line
