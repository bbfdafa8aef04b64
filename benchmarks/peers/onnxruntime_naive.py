"""ONNX Runtime on the graph as exported: all threads in one call, or one call per thread."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnxruntime
from limits import THREADS
from numpy.typing import NDArray
from zoo import ZooModel

from gen_engine.engine.identity.bundle import GENERATOR
from gen_engine.engine.identity.latents import Latents
from peers.contract import LANES, Settings, SideBySide, batches_of


def settings(model: ZooModel) -> Settings:
    """Yield each batch size with each split of the threads."""
    for batch in batches_of(model):
        for lanes in LANES:
            setting = f"batch {batch}, {lanes} × {THREADS // lanes} threads"
            yield setting, partial(OnnxRuntimePeer, model, batch, lanes)


class OnnxRuntimePeer:
    """A session, called from several threads."""

    def __init__(self, model: ZooModel, batch: int, lanes: int) -> None:
        self.batch, self._lanes = batch, SideBySide(lanes)
        self._session = naive_session(model.bundle.load(GENERATOR), THREADS // lanes)
        self._latents = Latents(dim=model.bundle.latent.dim).draw(0, batch)
        self.turn()

    def pixels(self, latents_BZ: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [B, H, W, C]."""
        (pixels,) = self._session.run(["pixels"], {"latents": latents_BZ})
        return pixels

    def turn(self) -> float:
        """Run one turn; return samples per second."""
        return self._lanes.turn(lambda: self.pixels(self._latents), self.batch)

    def close(self) -> None:
        """End the threads."""
        self._lanes.close()


def naive_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return a session of a model with default settings and a number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
