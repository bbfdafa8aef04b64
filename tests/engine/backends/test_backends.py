"""The contract of backends and their lanes, and what is special about ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from later import LaterBackend
from numpy.typing import NDArray
from tiny_bundle import CLASSES, make_tiny_bundle

from gen_engine.engine.backends import BACKENDS, open_backend
from gen_engine.engine.backends.contract import Backend, Lane
from gen_engine.engine.backends.onnxruntime import OnnxRuntimeBackend
from gen_engine.engine.bundle import Bundle
from gen_engine.engine.errors import BackendError, BackendUnavailable, RequestError
from gen_engine.engine.latents import Latents

BATCH, DIM, SHAPE = 5, 8, (6, 6, 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("backends") / "tiny.gen", size=6, latent_dim=DIM)


def inputs(first: int, batch: int = BATCH) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return Latents(dim=DIM, seed=2).draw(first, first + batch), np.arange(first, first + batch) % len(CLASSES)


def run(lane: Lane, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[np.uint8]:
    lane.submit(latents_BZ, labels_B)
    return lane.collect().copy()


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
                got.append(lane.collect().copy())
                waiting -= 1
            lane.submit(*inputs(BATCH * i))
            waiting += 1
        got += [lane.collect().copy() for _ in range(waiting)]
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

    def test_closing_forgets_what_is_in_flight(self, backend: Backend) -> None:
        lane = backend.lane()
        lane.submit(*inputs(0))
        lane.close()
        lane.close()


class TestLater(BackendContract):
    """The fake that the renderer's tests use keeps the contract too."""

    @pytest.fixture
    def backend(self, tiny: Bundle) -> Backend:
        return LaterBackend(BATCH, depth=3, shape=SHAPE)


class TestOnnxRuntime(BackendContract):
    @pytest.fixture
    def backend(self, tiny: Bundle) -> Backend:
        return OnnxRuntimeBackend(tiny, device="cpu", precision="fp32", batch=BATCH)

    def test_auto_is_a_backend_of_the_table(self, tiny: Bundle) -> None:
        backend = open_backend("auto", tiny, device="cpu", precision="fp32", batch=2)
        assert (backend.name, backend.device, backend.precision) == ("onnxruntime", "cpu", "fp32")
        assert backend.name in BACKENDS

    def test_an_unknown_backend(self, tiny: Bundle) -> None:
        with pytest.raises(RequestError, match="backend 'torch': known are auto, onnxruntime"):
            open_backend("torch", tiny, device="cpu", precision="fp32", batch=2)

    @pytest.mark.parametrize("device", ["tpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "gpu:0", ""])
    def test_an_unknown_device(self, tiny: Bundle, device: str) -> None:
        with pytest.raises(BackendUnavailable, match="onnxruntime knows cpu, cuda and cuda:N"):
            OnnxRuntimeBackend(tiny, device=device, batch=2)

    def test_another_precision(self, tiny: Bundle) -> None:
        with pytest.raises(BackendUnavailable, match=r"precision 'fp16': .* use --precision fp32"):
            OnnxRuntimeBackend(tiny, precision="fp16", batch=2)

    def test_a_device_that_is_not_there_is_not_replaced_by_the_processor(self, tiny: Bundle) -> None:
        # No machine has this many; one without CUDA says so in the same words.
        with pytest.raises(BackendUnavailable, match=r"device 'cuda:999': .* does not load here .* Use --device cpu"):
            OnnxRuntimeBackend(tiny, device="cuda:999", batch=2)

    def test_a_graph_that_is_none(self, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Bundle, "load", lambda self, name: b"not a graph")
        with pytest.raises(BackendError, match="onnxruntime refused the generator of bundle") as caught:
            OnnxRuntimeBackend(tiny, batch=2)
        assert caught.value.__cause__ is not None

    def test_a_bundle_that_promises_another_shape(self, tiny: Bundle, tmp_path: Path) -> None:
        other = make_tiny_bundle(tmp_path / "other.gen", size=7, latent_dim=DIM)
        backend = OnnxRuntimeBackend(other, batch=BATCH)
        backend._shape = (BATCH, *tiny.output.shape)
        with pytest.raises(BackendError, match=r"made uint8 \[5, 7, 7, 1\] where its bundle promises"):
            backend.lane().submit(*inputs(0))

    def test_a_failure_in_the_runtime_keeps_its_cause(self, tiny: Bundle) -> None:
        latents_BZ, _ = inputs(0)
        with pytest.raises(BackendError, match="onnxruntime failed on a batch of 5") as caught:
            OnnxRuntimeBackend(tiny, batch=BATCH).lane().submit(latents_BZ, np.full(BATCH, 99))
        assert caught.value.__cause__ is not None
