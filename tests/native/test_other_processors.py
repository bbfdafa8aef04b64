"""The compiled core on processors that fuse products and sums unless told not to, and on one with the other byte order.

In Debian: ``apt-get install qemu-user-static gcc-aarch64-linux-gnu gcc-s390x-linux-gnu``.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy_only import numpy_only

from gen_engine.engine.identity.latents import LATENT_STREAM, MAX_SEED, Latents, philox_words, quantile_table

tomllib = pytest.importorskip("tomllib")  # Python 3.11 and newer

ORDER = {"aarch64": "<", "s390x": ">"}

CASES = [
    (0, 0, 2, 4),
    (42, 0, 300, 100),
    (42, 10**12, 3, 100),
    (MAX_SEED, 2**52, 5, 1030),
    (3, 7, 9, 1),
    (2**63, 10**12, 40, 13),
    (9, 1, 2, 5000),
]
"""seed, first, samples, dim."""


@pytest.fixture(scope="module", params=ORDER)
def processor(request: pytest.FixtureRequest) -> str:
    """Return the name of a processor that can be compiled for and emulated here."""
    for tool in (f"{request.param}-linux-gnu-gcc", f"qemu-{request.param}-static"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    return str(request.param)


def draw(root: Path, folder: Path, processor: str, flags: list[str]) -> bytes:
    """Return the bytes of :data:`CASES` that the core's sources make when compiled with these flags."""
    sources, driver = root / "engine/native/src", Path(__file__).with_name("latents_driver.c")
    files = [str(file) for file in (driver, sources / "latents.c", sources / "cpu.c")]
    program = str(folder / "driver")
    compiler = f"{processor}-linux-gnu-gcc"
    subprocess.run([compiler, "-static", *flags, "-Werror", f"-I{sources}", *files, "-o", program], check=True)
    lines = quantile_table("normal", None).lines.astype(f"{ORDER[processor]}f4")
    numbers = [str(number) for case in CASES for number in case]
    command = [f"qemu-{processor}-static", program, *numbers]
    return subprocess.run(command, input=lines.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def expected(processor: str) -> bytes:
    """Return the same in NumPy."""
    made, order = [], ORDER[processor]
    with numpy_only():
        for seed, first, samples, dim in CASES:
            made.append(Latents(dim=dim, seed=seed).draw(first, first + samples).astype(f"{order}f4").tobytes())
            made.append(philox_words(seed, LATENT_STREAM, first, samples).astype(f"{order}u8").tobytes())
    return b"".join(made)


def flags_of(root: Path) -> list[str]:
    """Return the flags that the package compiles the core with."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    (extension,) = project["tool"]["setuptools"]["ext-modules"]
    return list(extension["extra-compile-args"])


def test_the_packages_flags_make_numpys_bits(root: Path, tmp_path: Path, processor: str) -> None:
    assert draw(root, tmp_path, processor, flags_of(root)) == expected(processor)


def test_the_flag_is_needed(root: Path, tmp_path: Path, processor: str) -> None:
    """So the test above can fail. GCC's ``-std=c11`` alone would do."""
    flags = [flag for flag in flags_of(root) if not flag.startswith(("-ffp-contract", "-std="))]
    made = np.frombuffer(draw(root, tmp_path, processor, flags), np.uint32)
    differing = (made != np.frombuffer(expected(processor), np.uint32)).mean()
    assert 0.2 < differing < 0.5
