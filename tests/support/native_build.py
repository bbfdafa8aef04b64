"""Builds of the compiled core besides the installed one: with sanitizers, for another processor, or changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SANITIZERS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


def extension(root: Path) -> dict:
    """Return the extension's table in pyproject.toml."""
    (table,) = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    return table


def sources(root: Path) -> list[Path]:
    return [root / name for name in extension(root)["sources"]]


def compile_core(root: Path, out: Path, *, flags: Sequence[str] = (), files: Sequence[Path] | None = None) -> Path:
    """Build the extension module into a directory, with the flags of pyproject.toml and these."""
    target = out / "_core.abi3.so"
    command = ["gcc", "-shared", "-fPIC", *extension(root)["extra-compile-args"], *flags]
    command += ["-I", sysconfig.get_path("include"), "-I", str(root / "engine/native/src")]
    command += [*map(str, files or sources(root)), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def sanitizer_environment(log: Path) -> dict[str, str]:
    """Return what a Python needs that loads a module with sanitizers. Their reports go to files beside ``log``."""
    libraries = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    return {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={log}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={log}",
        "PYTHONMALLOC": "malloc",
    }


def missing(*programs: str) -> str | None:
    """Return why programs cannot be run here, or None."""
    absent = [program for program in programs if shutil.which(program) is None]
    return f"{' and '.join(absent)} not installed, so this is not checked here" if absent else None
