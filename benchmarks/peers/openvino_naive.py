"""OpenVINO on the graph as exported, by its own guides: throughput hint, bf16 hint, an asynchronous queue."""

from __future__ import annotations

from functools import partial

import numpy as np
from limits import THREADS
from numpy.typing import NDArray
from zoo import ZooModel

from gen_engine.engine.backends import import_runtime
from gen_engine.engine.backends.openvino import shared_core
from gen_engine.engine.identity.bundle import GENERATOR
from gen_engine.engine.identity.latents import Latents
from gen_engine.export.compile.candidates import computes
from peers.contract import Settings, batches_of, keep_calling


def settings(model: ZooModel) -> Settings:
    """Yield each batch size; the runtime itself decides how to split the threads."""
    import_runtime("openvino")
    precision = "bf16" if "bf16" in computes("openvino") else "f32"
    for batch in batches_of(model):
        yield f"batch {batch}, {precision} hint", partial(OpenVinoPeer, model, batch, precision)


class OpenVinoPeer:
    """A compiled model with its queue of requests."""

    def __init__(self, model: ZooModel, batch: int, precision: str) -> None:
        openvino = import_runtime("openvino")
        self.batch = batch
        network = shared_core().read_model(model.bundle.load(GENERATOR))
        network.reshape({"latents": [batch, model.bundle.latent.dim]})
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
        self._queue = openvino.AsyncInferQueue(shared_core().compile_model(network, "CPU", hints), 2 * THREADS)
        self._latents = Latents(dim=model.bundle.latent.dim).draw(0, batch)
        self.turn()

    def pixels(self, latents_BZ: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [B, H, W, C]."""
        outputs: list[NDArray[np.uint8]] = []
        self._queue.set_callback(lambda request, _: outputs.append(request.get_tensor("pixels").data.copy()))
        self._queue.start_async({"latents": latents_BZ})
        self._queue.wait_all()
        self._queue.set_callback(lambda request, _: None)
        return outputs[0]

    def turn(self) -> float:
        """Run one turn; return samples per second."""
        return keep_calling(
            lambda: self._queue.start_async({"latents": self._latents}), self.batch, finish=self._queue.wait_all
        )

    def close(self) -> None:
        """Release the model."""
        self._queue.wait_all()
        del self._queue
