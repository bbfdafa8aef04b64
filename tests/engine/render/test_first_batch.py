"""What is found out before anything is written: a batch too large for memory, an engine that makes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jobs import run_job
from onnx import numpy_helper
from tiny_bundle import make_tiny_bundle, tiny_generator

from gen_engine.engine.backends.onnxruntime import OnnxRuntimeStream
from gen_engine.engine.errors import BackendError
from gen_engine.engine.identity.bundle import Bundle, LatentSpec, OutputSpec, write_bundle
from gen_engine.engine.render import first_batch


def bundle_with(path: Path, dense: Any, size: int = 6, last: str = "Tanh") -> Bundle:
    """A generator without classes whose weights went through ``dense``, with another ``last`` activation."""
    output = OutputSpec(kind="image", shape=(size, size, 1))
    model = tiny_generator(conditional=False, output=output, latent_dim=8, seed=0)
    for weight in model.graph.initializer:
        if weight.name == "dense":
            weight.CopyFrom(numpy_helper.from_array(dense(numpy_helper.to_array(weight).copy()), "dense"))
    for node in model.graph.node:
        node.op_type = last if node.op_type == "Tanh" else node.op_type
    return write_bundle(
        path,
        name="broken",
        latent=LatentSpec(dim=8, distribution="normal"),
        labels=None,
        output=output,
        generator=onnx.ModelProto.SerializeToString(model, deterministic=True),
        training={},
        parity={},
    )


class Allocator:
    """A runtime with memory for so many samples at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, error: type[Exception], said: str) -> None:
        honest = OnnxRuntimeStream.submit

        def submit(stream: OnnxRuntimeStream, latents_BZ: Any, labels_B: Any) -> None:
            if len(latents_BZ) > room:
                raise error(said)
            honest(stream, latents_BZ, labels_B)

        monkeypatch.setattr(OnnxRuntimeStream, "submit", submit)


SAID = [
    (MemoryError, ""),
    (BackendError, "onnxruntime failed on a batch of 64: BFCArena::AllocateRawInternal Failed to allocate memory"),
    (BackendError, "openvino failed: std::bad_alloc"),
    (BackendError, "CUDA error: CUDA_ERROR_OUT_OF_MEMORY"),
]


@pytest.mark.parametrize(("error", "said"), SAID)
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], said: str
) -> None:
    Allocator(monkeypatch, 20, error, said)
    with pytest.raises(
        BackendError, match=r"a batch of 64 does not fit into memory .* but a batch of 16 does"
    ) as caught:
        run_job(tiny, tmp_path / "out", count=100, batch=64)
    assert "give --batch 16. The batch belongs to a dataset's identity" in str(caught.value)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "out").exists()
    run_job(tiny, tmp_path / "out", count=100, batch=16)


def test_memory_that_does_not_even_hold_one(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Allocator(monkeypatch, 0, MemoryError, "")
    with pytest.raises(BackendError, match="and neither does a batch of 1; free some memory"):
        run_job(tiny, tmp_path / "out", count=100, batch=8)


def test_another_error_is_no_lack_of_memory(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Allocator(monkeypatch, 0, BackendError, "the device is gone")
    with pytest.raises(BackendError, match=r"^the device is gone$"):
        run_job(tiny, tmp_path / "out", count=100, batch=8)


def test_a_generator_that_ignores_its_latents_is_refused(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path / "b.gen", lambda dense: 0 * dense)
    with pytest.raises(BackendError, match=r"samples 0 to 49 of bundle broken are all the same, though their latents"):
        run_job(bundle, tmp_path / "out", count=100)
    assert not (tmp_path / "out").exists()


def test_nan_behind_uint8_is_refused(tmp_path: Path) -> None:
    """Of samples of which two latents overflow, one to each infinity, all values are NaN, and all levels the same."""
    bundle = bundle_with(tmp_path / "b.gen", lambda dense: np.full_like(dense, 3e38), last="Identity")
    with pytest.raises(BackendError, match=r"sample \d+: the generator of bundle broken made a value that is NaN"):
        run_job(bundle, tmp_path / "out", count=100)
    assert not (tmp_path / "out").exists()


def test_a_backend_that_makes_black_pictures_of_some_is_refused(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = OnnxRuntimeStream.collect

    def collect(stream: OnnxRuntimeStream) -> Any:
        values = honest(stream)
        values["image"][3] = 0
        return values

    monkeypatch.setattr(OnnxRuntimeStream, "collect", collect)
    with pytest.raises(BackendError, match="sample 3 has one value throughout as onnxruntime on cpu in fp32"):
        run_job(tiny, tmp_path / "out", count=100)


def test_flat_pictures_that_the_generator_means_are_written(tmp_path: Path) -> None:
    """Every pixel of a sample is the same by its weights: a generator of plain greys."""
    bundle = bundle_with(tmp_path / "b.gen", lambda dense: np.repeat(dense[:, :1], dense.shape[1], axis=1))
    assert run_job(bundle, tmp_path / "out", count=20).rendered == 20


@pytest.mark.parametrize(("size", "batch"), [(3, 8), (6, 1)])
def test_tiny_samples_and_batches_of_one_prove_nothing(tmp_path: Path, size: int, batch: int) -> None:
    bundle = bundle_with(tmp_path / "b.gen", lambda dense: 0 * dense, size)
    assert size * size < first_batch.MIN_VALUES or batch == 1
    assert run_job(bundle, tmp_path / "out", count=8, batch=batch).rendered == 8


def test_classes_alone_may_make_the_difference(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "b.gen", size=6)
    assert run_job(bundle, tmp_path / "out", count=30, labels="star").rendered == 30
