"""The contract of backends, for the generator of ``tiny_bundle``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_bundle import CLASSES

from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.testing import BackendContract as Contract
from gen_engine.engine.testing import backends

BATCH, DIM, SHAPE = backends.BATCH, 8, (6, 6, 1)
run = backends.run


def inputs(first: int, batch: int = BATCH) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return backends.inputs(first, batch, dim=DIM, classes=len(CLASSES))


def in_parallel(backend: Backend, streams: int, *, batches: int) -> list[NDArray[Any]]:
    """Return so many batches in order, made by so many streams in turn, all at once."""
    opened = [backend.open_stream() for _ in range(streams)]

    def work(stream: int) -> list[NDArray[Any]]:
        return [run(opened[stream], *inputs(BATCH * batch)) for batch in range(stream, batches, streams)]

    with ThreadPoolExecutor(streams) as pool:
        shares = list(pool.map(work, range(streams)))
    return [shares[batch % streams][batch // streams] for batch in range(batches)]


class BackendContract(Contract):
    """With latents of 8, three classes and images of 6×6×1."""

    dim, classes, shape = DIM, len(CLASSES), SHAPE
