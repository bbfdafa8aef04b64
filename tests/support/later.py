"""A backend in plain NumPy whose streams answer later, as a GPU's do: what was submitted is computed when collected."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray


class LaterBackend:
    """Keeps up to ``depth`` batches in flight a stream, and hands out one buffer again and again."""

    name, version, device, precision = "later", "1", "cpu", "fp32"
    engine = None

    def __init__(self, batch: int, *, depth: int, shape: tuple[int, int, int] = (2, 2, 1)) -> None:
        self.batch, self.depth, self.shape = batch, depth, shape
        self.streams: list[LaterStream] = []
        self.submitted: list[NDArray[np.float32]] = []
        self.most_in_flight = 0

    def open_stream(self) -> LaterStream:
        self.streams.append(LaterStream(self))
        return self.streams[-1]


class LaterStream:
    def __init__(self, backend: LaterBackend) -> None:
        self.backend, self.depth, self.closed = backend, backend.depth, False
        self.in_flight: deque[tuple[NDArray[np.float32], NDArray[np.int64] | None]] = deque()
        self.buffer = np.zeros((backend.batch, *backend.shape), np.uint8)

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        assert not self.closed
        assert len(latents_BZ) == self.backend.batch
        assert len(self.in_flight) < self.depth, "more batches in flight than the stream's depth"
        self.in_flight.append((latents_BZ, labels_B))
        self.backend.submitted.append(latents_BZ.copy())
        self.backend.most_in_flight = max(self.backend.most_in_flight, len(self.in_flight))

    def collect(self) -> dict[str, NDArray[np.uint8]]:
        latents_BZ, labels_B = self.in_flight.popleft()
        grey_B = np.abs(latents_BZ).sum(axis=1) * 20.0 + (0 if labels_B is None else 50.0 * labels_B)
        self.buffer[:] = grey_B.astype(np.uint8)[:, None, None, None]
        return {"image": self.buffer}

    def close(self) -> None:
        self.closed = True
        self.in_flight.clear()
