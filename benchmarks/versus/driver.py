"""One workload inside one process. The interpreter of each revision runs this file, so its API must exist in both.

Usage: PYTHON driver.py backend|latents|png|raw BUNDLE

Prints {"elapsed": seconds, "processor": seconds} of the work alone, without imports and set-up.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gen_engine.engine.backends import open_backend
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import canonical_graph


def backend(path: Path) -> Callable[[], object]:
    """Return 80 batches of 50 on one lane."""
    bundle = read_bundle(path)
    lane = open_backend("onnxruntime", bundle, canonical_graph(bundle), device="cpu", batch=50).open_stream()
    latents, labels = Latents(dim=bundle.latent.dim).draw(0, 50), np.arange(50) % len(bundle.labels.names)

    def work() -> None:
        for _ in range(80):
            lane.submit(latents, labels)
            lane.collect()

    return work


def latents(path: Path) -> Callable[[], object]:
    """Return 40 million normals."""
    drawn = Latents(dim=64, seed=1)

    def work() -> None:
        for start in range(0, 625_000, 25_000):
            drawn.draw(start, start + 25_000)

    return work


def codec(name: str) -> Callable[[Path], Callable[[], object]]:
    """Return a workload that encodes smooth images with noise."""

    def make(path: Path) -> Callable[[], object]:
        rng = np.random.default_rng(0)
        smooth = np.linspace(0, 255, 64)[:, None, None] * np.linspace(0, 1, 64)[None, :, None] * np.ones(3)
        noisy = smooth + rng.normal(0, 2, (250, 64, 64, 3))
        pixels, encoder = noisy.clip(0, 255).astype(np.uint8), open_codec(name)
        repeats = {"png": 4, "raw": 200}[name]

        def work() -> None:
            for _ in range(repeats):
                encoder.encode(pixels)

        return work

    return make


WORK = {"backend": backend, "latents": latents, "png": codec("png"), "raw": codec("raw")}


def main() -> None:
    """Run the work once to warm up, then once timed."""
    work = WORK[sys.argv[1]](Path(sys.argv[2]))
    work()
    processor, began = time.process_time(), time.perf_counter()
    work()
    elapsed = time.perf_counter() - began
    print(json.dumps({"elapsed": elapsed, "processor": time.process_time() - processor}))


if __name__ == "__main__":
    main()
