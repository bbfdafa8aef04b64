"""Limits of the machine, measured in the same rounds as what is compared with them.

An absolute figure does not carry over to another machine. A share of the speed at which a machine multiplies matrices,
copies memory or writes to its disk does, and shows how much is left to gain.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from gen_engine.engine.base.processor import usable_cpus

THREADS = usable_cpus()
_SIDE = 2048
_PRODUCTS = 5
_COPIED = 64 << 20
_WRITTEN = 32 << 20
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True)
class Limit:
    """A speed of the machine."""

    name: str
    """Its name in the table of figures."""

    unit: str
    """FLOP (a multiplication and an addition are two), byte, or process."""

    rate: Callable[[], float]
    """Measures it for a moment; units per second."""


def matrix_product(precision: str, threads: int = THREADS) -> Limit:
    """Return the rate of a product of two matrices of 2048 × 2048, by torch, which calls oneDNN's kernels.

    The best of several: the first ones meet sleeping threads and cold caches.
    """

    def rate() -> float:
        torch.set_num_threads(threads)
        a, b = _matrices(precision)
        multiply = torch._int_mm if precision == "int8" else torch.mm
        seconds = []
        for _ in range(_PRODUCTS):
            began = time.perf_counter()
            multiply(a, b)
            seconds.append(time.perf_counter() - began)
        return 2 * float(_SIDE) ** 3 / min(seconds)

    return Limit(f"{precision} matrix product, {threads} thread{'s' * (threads > 1)}", "FLOP", rate)


def memory_copy() -> Limit:
    """Return the rate of copying memory beyond the size of caches, on one thread; a copied byte counts once."""

    def rate() -> float:
        source, target = _buffers()
        began = time.perf_counter()
        np.copyto(target, source)
        return _COPIED / (time.perf_counter() - began)

    return Limit("memory copy, 1 thread", "byte", rate)


def disk_write(folder: Path) -> Limit:
    """Return the rate of writing one large file and syncing it."""

    def rate() -> float:
        data, path = memoryview(_buffers()[0])[:_WRITTEN], folder / "limit"
        began = time.perf_counter()
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        seconds = time.perf_counter() - began
        path.unlink()
        return _WRITTEN / seconds

    return Limit("disk write", "byte", rate)


def python_start() -> Limit:
    """Return the rate at which Python processes that do nothing start and end."""

    def rate() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        return 1 / (time.perf_counter() - began)

    return Limit("start of Python", "process", rate)


@cache
def _matrices(precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    shape = (2, _SIDE, _SIDE)
    if precision == "int8":
        a, b = torch.randint(-100, 100, shape, dtype=torch.int8, generator=rng)
    else:
        a, b = torch.randn(shape, generator=rng).to(DTYPES[precision])
    (torch._int_mm if precision == "int8" else torch.mm)(a, b)  # the first call packs weights and selects a kernel
    return a, b


@cache
def _buffers() -> tuple[np.ndarray, np.ndarray]:
    """Return two buffers whose pages are mapped."""
    source = np.random.default_rng(0).integers(0, 256, _COPIED, dtype=np.uint8)
    return source, np.zeros_like(source) + 1


def is_real(config: pytest.Config) -> bool:
    """Return whether a run measures: --benchmark-enable overrides --benchmark-disable, which pyproject.toml sets."""
    return bool(config.getoption("benchmark_enable") or not config.getoption("benchmark_disable"))
