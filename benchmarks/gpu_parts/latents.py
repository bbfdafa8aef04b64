"""The latents' kernel: the same bits as NumPy's for every distribution, and normals per second.

Shape suffixes: B samples, Z latent dimensions.
"""

from __future__ import annotations

import itertools
import time
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np

from gen_engine.engine.backends import cuda
from gen_engine.engine.backends.cuda_inputs import DeviceInputs, DeviceLatents
from gen_engine.engine.identity.latents import Latents
from gpu_parts.contract import Findings, seconds_of
from gpu_parts.driver import Driver

TABLES: tuple[tuple[str, float | None], ...] = (("normal", None), ("normal", 2.0), ("normal", 0.5), ("uniform", None))
DIMS = (1, 7, 8, 64, 100, 513)
SEEDS = (0, 1, 20261126, 2**63 - 1, 2**64 - 1)
FIRSTS = (0, 1, 49, 10**6 + 3, 10**12 - 17, 2**40, 2**52 + 1)
BATCH = 257
"""No multiple of a block: the last threads of a grid have nothing to do."""

LARGE_BZ = (1 << 18, 128)
"""134 MB of latents: more than the caches hold."""


class Drawer:
    """Draws latents on the first GPU and fetches them.

    Args:
        latents: what to draw.
        batch: samples a launch.
    """

    def __init__(self, latents: Latents, batch: int) -> None:
        self.driver, self.core, here = Driver(), cuda.cuda_core(), cuda.gpu(0)
        device = self.core.Device(0)
        device.set_current()
        self.stream, self.batch, self.latents = device.create_stream(), batch, latents
        bundle: Any = SimpleNamespace(labels=None, latent=SimpleNamespace(dim=latents.dim))
        self.inputs = DeviceInputs(self.core, 0, self.stream, bundle, batch)
        self.drawn = DeviceLatents(self.core, 0, here.architecture, self.stream, latents)

    def at(self, first: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the latents of samples ``first`` and after: float32 [B, Z]."""
        z_BZ = np.full((self.batch, self.latents.dim), np.nan, np.float32)
        self.inputs.put(first, None)
        self.inputs.enqueue(self.stream, self.drawn)
        self.stream.sync()
        self.driver.copy_to_host(self.inputs.latents_address, z_BZ)
        return z_BZ

    def launch(self, times: int) -> None:
        """Launch the kernel alone so often, and wait."""
        for _ in range(times):
            self.drawn.launch(self.stream, self.inputs)
        self.stream.sync()

    def close(self) -> None:
        """Release its memory."""
        self.stream.sync()
        self.drawn.close()
        self.inputs.close()


def run(found: Findings) -> None:
    """Compare bits, then measure."""
    for distribution, truncation in TABLES:
        draws, wrong = _compare(distribution, truncation)
        name = distribution if truncation is None else f"{distribution}, truncated at {truncation:g}"
        detail = f"{draws} draws of {BATCH} samples, {len(DIMS)} widths, {len(SEEDS)} seeds, samples up to 2**52"
        found.check(f"bits of {name}", not wrong, f"{detail}; differ: {wrong[:5]}" if wrong else detail)
    samples, dim = LARGE_BZ
    drawer = Drawer(Latents(dim=dim), samples)
    drawer.launch(5)
    took = seconds_of(lambda: drawer.launch(20), repeats=7) / 20
    drawer.close()
    found.figure("normals drawn on the GPU", samples * dim / took, "normals/s")
    found.figure("written by it", 4 * samples * dim / took / 1e9, "GB/s")
    latents, began = Latents(dim=dim), time.perf_counter()
    latents.draw(0, 1 << 15)
    found.figure("normals drawn by one processor thread", (1 << 15) * dim / (time.perf_counter() - began), "normals/s")
    _beside_torch(found)


def _compare(distribution: str, truncation: float | None) -> tuple[int, list[str]]:
    """Return how many draws were compared, and those that differ in a bit."""
    draws, wrong = 0, []
    for dim, seed in itertools.product(DIMS, SEEDS):
        latents = Latents(dim=dim, distribution=distribution, truncation=truncation, seed=seed)
        drawer = Drawer(latents, BATCH)
        for first in FIRSTS:
            expected = latents.draw(first, first + BATCH)
            draws += 1
            if not np.array_equal(drawer.at(first).view(np.uint32), expected.view(np.uint32)):
                wrong.append(f"dim {dim}, seed {seed}, sample {first}")
        drawer.close()
    return draws, wrong


def _beside_torch(found: Findings) -> None:
    """torch.randn, whose numbers depend on how they are asked for: what drawing by index costs."""
    if find_spec("torch") is None:
        return
    import torch

    z_BZ = torch.empty(LARGE_BZ, device="cuda")

    def fill() -> None:
        for _ in range(20):
            z_BZ.normal_()
        torch.cuda.synchronize()

    fill()
    found.figure("torch's normal_ on the same memory", 20 * z_BZ.numel() / seconds_of(fill, repeats=7), "normals/s")
