"""The contract of backends and their lanes: a class of tests that each backend's own tests inherit."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bundle import CLASSES

from gen_engine.engine.backends.contract import Backend, Lane
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.latents import Latents

BATCH, DIM, SHAPE = 5, 8, (6, 6, 1)


def inputs(first: int, batch: int = BATCH) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return Latents(dim=DIM, seed=2).draw(first, first + batch), np.arange(first, first + batch) % len(CLASSES)


def run(lane: Lane, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[np.uint8]:
    lane.submit(latents_BZ, labels_B)
    return lane.collect()["image"].copy()


def in_parallel(backend: Backend, lanes: int, *, batches: int) -> list[NDArray[np.uint8]]:
    """Return so many batches in order, made by so many lanes in turn, all at once."""
    opened = [backend.lane() for _ in range(lanes)]

    def work(lane: int) -> list[NDArray[np.uint8]]:
        return [run(opened[lane], *inputs(BATCH * batch)) for batch in range(lane, batches, lanes)]

    with ThreadPoolExecutor(lanes) as pool:
        shares = list(pool.map(work, range(lanes)))
    return [shares[batch % lanes][batch // lanes] for batch in range(batches)]


class BackendContract:
    """Every backend passes these. ``open`` opens one of batch 5 for latents of 8 and pictures of 6×6×1."""

    @pytest.fixture
    def backend(self, tiny: Bundle) -> Backend:
        raise NotImplementedError

    def test_it_says_what_it_is(self, backend: Backend) -> None:
        assert backend.batch == BATCH
        assert all(isinstance(x, str) and x for x in (backend.name, backend.version, backend.device, backend.precision))

    def test_a_batch_is_uint8_nhwc(self, backend: Backend) -> None:
        pixels = run(backend.lane(), *inputs(0))
        assert (pixels.dtype, pixels.shape) == (np.uint8, (BATCH, *SHAPE))
        assert len(np.unique(pixels)) > 3

    def test_batches_are_collected_in_the_order_they_were_submitted(self, backend: Backend) -> None:
        expected = [run(backend.lane(), *inputs(BATCH * i)) for i in range(4)]
        lane = backend.lane()
        assert lane.depth >= 1
        waiting = 0
        got: list[NDArray[np.uint8]] = []
        for i in range(4):
            if waiting == lane.depth:
                got.append(lane.collect()["image"].copy())
                waiting -= 1
            lane.submit(*inputs(BATCH * i))
            waiting += 1
        got += [lane.collect()["image"].copy() for _ in range(waiting)]
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_row_does_not_depend_on_the_other_rows(self, backend: Backend) -> None:
        lane = backend.lane()
        latents_BZ, labels_B = inputs(0)
        whole = run(lane, latents_BZ, labels_B)
        for row in range(BATCH):
            others, other_labels = np.full_like(latents_BZ, 3.0), np.zeros_like(labels_B)
            others[row], other_labels[row] = latents_BZ[row], labels_B[row]
            np.testing.assert_array_equal(run(lane, others, other_labels)[row], whole[row])

    def test_the_label_counts(self, backend: Backend) -> None:
        lane = backend.lane()
        latents_BZ, _ = inputs(0)
        made = [run(lane, latents_BZ, np.full(BATCH, label)) for label in range(len(CLASSES))]
        assert not np.array_equal(made[0], made[1])

    def test_lanes_in_parallel_make_what_one_makes(self, backend: Backend) -> None:
        expected = [run(backend.lane(), *inputs(BATCH * i)) for i in range(8)]
        lanes = [backend.lane() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda i: run(lanes[i], *inputs(BATCH * i)), range(8)))
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_collected_pixels_stay_until_the_next_collect(self, backend: Backend) -> None:
        """The order of the renderer: what was collected is used after the next batch was submitted."""
        expected = [run(backend.lane(), *inputs(BATCH * i)) for i in range(6)]
        lane = backend.lane()
        for i in range(lane.depth):
            lane.submit(*inputs(BATCH * i))
        for i in range(6):
            pixels = lane.collect()["image"]
            if i + lane.depth < 6:
                lane.submit(*inputs(BATCH * (i + lane.depth)))
                time.sleep(0.005)  # long enough for a batch that is computed behind our back
            np.testing.assert_array_equal(pixels, expected[i])

    def test_inputs_that_cannot_be_written_to_are_read(self, backend: Backend) -> None:
        latents_BZ, labels_B = inputs(0)
        expected = run(backend.lane(), latents_BZ, labels_B)
        latents_BZ.flags.writeable = labels_B.flags.writeable = False
        np.testing.assert_array_equal(run(backend.lane(), latents_BZ, labels_B), expected)

    def test_closing_forgets_what_is_in_flight(self, backend: Backend) -> None:
        lane = backend.lane()
        lane.submit(*inputs(0))
        lane.close()
        lane.close()
