"""The compiled core on 64-bit Arm: it compiles, and its kernels make the same bytes, under emulation."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest
from native_build import extension, missing, sources

from gen_engine.engine.identity.latents import quantile_table

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
DRIVER = Path(__file__).with_name("kernels.c")

pytestmark = pytest.mark.slow
needs_compiler = pytest.mark.skipif(missing(COMPILER) is not None, reason=str(missing(COMPILER)))
needs_emulator = pytest.mark.skipif(missing(COMPILER, EMULATOR) is not None, reason=str(missing(COMPILER, EMULATOR)))


def build(compiler: str, root: Path, out: Path, flags: list[str]) -> Path:
    """Build the driver with the kernels, which know no Python."""
    kernels = [source for source in sources(root) if not source.name.startswith(("bind_", "module"))]
    command = [compiler, "-static", *flags, "-I", str(root / "engine/native/src"), str(DRIVER), *map(str, kernels)]
    done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lines") / "lines"
    path.write_bytes(quantile_table("normal", None).lines.tobytes())
    return path


@pytest.fixture(scope="module")
def here(root: Path, lines: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what this machine's processor makes."""
    driver = build("gcc", root, tmp_path_factory.mktemp("here") / "kernels", extension(root)["extra-compile-args"])
    return output(driver, lines)


@pytest.mark.skipif(missing("gcc") is not None, reason=str(missing("gcc")))
def test_simd_changes_no_byte(root: Path, here: str, lines: Path, tmp_path: Path) -> None:
    driver = build("gcc", root, tmp_path / "kernels", extension(root)["extra-compile-args"])
    assert output(driver, lines, "plain") == here
    assert len(here.splitlines()) > 60


@needs_compiler
def test_it_compiles_without_a_warning(root: Path, tmp_path: Path) -> None:
    """The limited API's headers do not depend on the processor."""
    flags = [*extension(root)["extra-compile-args"], "-Werror", "-I", sysconfig.get_path("include")]
    for source in sources(root):
        command = [COMPILER, *flags, "-c", str(source), "-o", str(tmp_path / "object.o")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@needs_emulator
def test_it_makes_the_same_bytes(root: Path, here: str, lines: Path, tmp_path: Path) -> None:
    driver = build(COMPILER, root, tmp_path / "kernels", extension(root)["extra-compile-args"])
    assert output(EMULATOR, driver, lines) == here


@needs_emulator
def test_contraction_would_change_the_latents(root: Path, here: str, lines: Path, tmp_path: Path) -> None:
    """Why pyproject.toml forbids it: this compiler fuses products and sums by default."""
    flags = [flag for flag in extension(root)["extra-compile-args"] if not flag.startswith("-ffp-contract")]
    flags = ["-std=gnu11" if flag == "-std=c11" else flag for flag in flags]  # -std=c11 forbids it as well
    made = output(EMULATOR, build(COMPILER, root, tmp_path / "kernels", flags), lines)
    changed = {old.split()[0] for old, new in zip(here.splitlines(), made.splitlines(), strict=True) if old != new}
    assert changed == {"latents"}
