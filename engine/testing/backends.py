"""The contract tests of backends and their execution streams, as a class to subclass once per backend."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from gen_engine.engine.backends.contract import Backend, ExecutionStream
from gen_engine.engine.identity.latents import Latents

BATCH = 5
"""Samples per call of the backend that a contract's fixture opens."""


def inputs(first: int, batch: int = BATCH, *, dim: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return latents [batch, dim] and labels [batch] of samples ``first`` and after."""
    return Latents(dim=dim, seed=2).draw(first, first + batch), np.arange(first, first + batch) % classes


def run(stream: ExecutionStream, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[Any]:
    """Run one batch and return a copy of the field ``image``."""
    stream.submit(latents_BZ, labels_B)
    return stream.collect()["image"].copy()


class BackendContract:
    """Every backend passes these.

    A subclass has the fixture ``backend``, which opens a conditional generator of images at a batch of :data:`BATCH`.
    The attributes describe that generator; the defaults are those of the bundle that comes with the package,
    :data:`gen_engine.engine.identity.bundle.SHIPPED`.
    """

    dim: ClassVar[int] = 64
    """Latent dimensions."""

    classes: ClassVar[int] = 10
    """Number of classes; labels are 0 and above."""

    shape: ClassVar[tuple[int, ...]] = (28, 28, 1)
    """Shape of the field ``image``."""

    @pytest.fixture
    def backend(self) -> Backend:
        """Open the generator."""
        raise NotImplementedError

    def inputs(self, first: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the latents and labels of a batch that begins with sample ``first``."""
        return inputs(first, dim=self.dim, classes=self.classes)

    def test_it_says_what_it_is(self, backend: Backend) -> None:
        assert backend.batch == BATCH
        assert all(isinstance(x, str) and x for x in (backend.name, backend.version, backend.device, backend.precision))

    def test_a_batch_is_uint8_nhwc(self, backend: Backend) -> None:
        pixels = run(backend.open_stream(), *self.inputs(0))
        assert pixels.dtype == np.dtype(np.uint8)
        assert pixels.shape == (BATCH, *self.shape)
        assert len(np.unique(pixels)) > 3

    def test_batches_are_collected_in_the_order_they_were_submitted(self, backend: Backend) -> None:
        expected = [run(backend.open_stream(), *self.inputs(BATCH * i)) for i in range(4)]
        stream = backend.open_stream()
        assert stream.depth >= 1
        waiting = 0
        got: list[NDArray[Any]] = []
        for i in range(4):
            if waiting == stream.depth:
                got.append(stream.collect()["image"].copy())
                waiting -= 1
            stream.submit(*self.inputs(BATCH * i))
            waiting += 1
        got += [stream.collect()["image"].copy() for _ in range(waiting)]
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_row_does_not_depend_on_the_other_rows(self, backend: Backend) -> None:
        stream = backend.open_stream()
        latents_BZ, labels_B = self.inputs(0)
        whole = run(stream, latents_BZ, labels_B)
        for row in range(BATCH):
            others, other_labels = np.full_like(latents_BZ, 3.0), np.zeros_like(labels_B)
            others[row], other_labels[row] = latents_BZ[row], labels_B[row]
            np.testing.assert_array_equal(run(stream, others, other_labels)[row], whole[row])

    def test_the_label_counts(self, backend: Backend) -> None:
        stream = backend.open_stream()
        latents_BZ, _ = self.inputs(0)
        made = [run(stream, latents_BZ, np.full(BATCH, label)) for label in range(self.classes)]
        assert not np.array_equal(made[0], made[1])

    def test_streams_in_parallel_make_what_one_makes(self, backend: Backend) -> None:
        expected = [run(backend.open_stream(), *self.inputs(BATCH * i)) for i in range(8)]
        streams = [backend.open_stream() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda i: run(streams[i], *self.inputs(BATCH * i)), range(8)))
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_collected_pixels_stay_until_the_next_collect(self, backend: Backend) -> None:
        """The order of the renderer: collected values are used after the next batch was submitted."""
        expected = [run(backend.open_stream(), *self.inputs(BATCH * i)) for i in range(6)]
        stream = backend.open_stream()
        for i in range(stream.depth):
            stream.submit(*self.inputs(BATCH * i))
        for i in range(6):
            pixels = stream.collect()["image"]
            if i + stream.depth < 6:
                stream.submit(*self.inputs(BATCH * (i + stream.depth)))
                time.sleep(0.005)  # long enough for a batch that is computed in the background
            np.testing.assert_array_equal(pixels, expected[i])

    def test_inputs_that_cannot_be_written_to_are_read(self, backend: Backend) -> None:
        latents_BZ, labels_B = self.inputs(0)
        expected = run(backend.open_stream(), latents_BZ, labels_B)
        latents_BZ.flags.writeable = labels_B.flags.writeable = False
        np.testing.assert_array_equal(run(backend.open_stream(), latents_BZ, labels_B), expected)

    def test_closing_forgets_what_is_in_flight(self, backend: Backend) -> None:
        stream = backend.open_stream()
        stream.submit(*self.inputs(0))
        stream.close()
        stream.close()
