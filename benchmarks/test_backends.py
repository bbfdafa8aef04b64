"""The backend by batch size, which is the reason for the default."""

from __future__ import annotations

import numpy as np
import pytest

from gen_engine.engine.backends import open_backend
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import DEFAULT_BATCH
from gen_engine.engine.identity.variants import canonical_graph


@pytest.mark.parametrize("batch", [1, 10, 25, 100, 200, 500])
def test_default_batch_against_others(against, shipped, batch: int) -> None:
    """Unit: 1,000 samples per round on one thread. Peer: the same at another batch."""
    samples = 1000 if against.real else batch

    def loop(size: int):
        lane = open_backend("onnxruntime", shipped, canonical_graph(shipped), device="cpu", batch=size).open_stream()
        latents = Latents(dim=shipped.latent.dim).draw(0, size)
        labels = np.zeros(size, np.int64) if shipped.labels else None

        def run() -> None:
            for _ in range(max(1, samples // size)):
                lane.submit(latents, labels)
                lane.collect()

        return run

    ratios = against(loop(DEFAULT_BATCH), loop(batch), rounds=15)
    against.require_ratio(f"batch {DEFAULT_BATCH} over batch {batch}", ratios, at_least=0.9)
