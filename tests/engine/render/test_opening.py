"""What a job finds out of its generator before it writes: rows alone and in a batch, twice the same, within limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import graph
from jobs import make_request, run_job
from odd_graphs import (
    batch_statistics,
    endless_loop,
    endless_loop_of_constants,
    odd_bundle,
    other_above,
    ten_gigabytes,
)
from onnx import TensorProto, helper
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.backends.onnxruntime import OnnxRuntimeStream
from gen_engine.engine.errors import BackendError
from gen_engine.engine.identity.bundle import Bundle, LatentSpec, OutputSpec, write_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.reader import open_dataset
from gen_engine.engine.render import allowance, rows
from gen_engine.engine.run.job import open_job
from gen_engine.engine.sample.kinds.vector import Vector

BACKENDS = ["onnxruntime", "openvino"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def opened(bundle: Bundle, **request: Any) -> Any:
    return open_job(make_request(count=100, **request), bundle)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_that_is_another_one_at_the_jobs_batch_is_refused(tmp_path: Path, backend: str) -> None:
    bundle = odd_bundle(tmp_path / "b.gen", partial(other_above, 40))
    with pytest.raises(
        BackendError, match=r"differs by up to \S+ % of its range between a batch of 50 and a batch of 1"
    ):
        run_job(bundle, tmp_path / "out", count=100, backend=backend)
    assert not (tmp_path / "out").exists()
    run_job(bundle, tmp_path / "out", count=100, batch=40, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_statistics_over_the_batch_are_refused(tmp_path: Path, backend: str) -> None:
    bundle = odd_bundle(tmp_path / "b.gen", batch_statistics)
    with pytest.raises(BackendError, match=r"computes something else at another batch\. Use --batch 1"):
        opened(bundle, batch=10, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_with_one_batch_must_not_mix_its_rows(tmp_path: Path, backend: str) -> None:
    """Not even by so little that it would be taken for rounding: the same batch has the same bits."""
    mixing = odd_bundle(tmp_path / "b.gen", partial(batch_statistics, 0.1), fixed_batch=10)
    with pytest.raises(BackendError, match="depends on the other samples of its batch of 10"):
        opened(mixing, backend=backend)
    opened(make_tiny_bundle(tmp_path / "c.gen", conditional=False, size=6), backend=backend)


@pytest.mark.parametrize("batch", [2, 50, 333])
@pytest.mark.parametrize(
    "output", [None, OutputSpec(kind="vector", shape=(20,), dtype="float32")], ids=["image", "vector"]
)
def test_honest_generators_pass(tmp_path: Path, batch: int, output: OutputSpec | None) -> None:
    bundle = make_tiny_bundle(tmp_path / "b.gen", size=20, output=output, gain=1e4)
    for backend in BACKENDS:
        opened(bundle, batch=batch, backend=backend)


def test_what_passed_is_not_checked_again_here(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tiny, batch=20)
    monkeypatch.setattr(rows, "_check_alone", None)
    opened(tiny, batch=20)
    with pytest.raises(TypeError):
        opened(tiny, batch=21)
    monkeypatch.undo()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # nothing can be remembered
    opened(tiny, batch=20)


class Unsteady:
    """A runtime that makes another value every time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, int], None]) -> None:
        honest, calls = OnnxRuntimeStream.collect, [0]

        def collect(stream: OnnxRuntimeStream) -> Any:
            values = {name: array.copy() for name, array in honest(stream).items()}
            calls[0] += 1
            change(values["image"], calls[0])
            return values

        monkeypatch.setattr(OnnxRuntimeStream, "collect", collect)


def test_samples_that_differ_when_rendered_again_are_refused(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(pixels: Any, call: int) -> None:
        pixels[7, 2, 3] ^= call % 2

    Unsteady(monkeypatch, change)
    with pytest.raises(
        BackendError, match=r"onnxruntime on cpu in fp32 .* sample 7 differs, 1 of \d+ values of field image in all"
    ):
        run_job(tiny, tmp_path / "out", count=100)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("batched", "alone", "precision", "refused"),
    [
        (np.uint8([[10, 20]]), np.uint8([[12, 20]]), "fp32", False),
        (np.uint8([[10, 20]]), np.uint8([[13, 20]]), "fp32", True),
        (np.uint8([20 * [9] + [10]]), np.uint8([20 * [9] + [40]]), "bf16", False),
        (np.uint8([20 * [9]]), np.uint8([20 * [15]]), "bf16", True),  # on average
        (np.uint8([[10] + 99 * [9]]), np.uint8([[40] + 99 * [9]]), "bf16", False),
        (np.float32([[1.0, 1e4]]), np.float32([[1.0, 1.01e4]]), "fp32", True),
        (np.float32([[1.0, 1e4]]), np.float32([[1.0, 1.001e4]]), "fp32", False),
        (np.float32([[50.0, 1e4]]), np.float32([[51.0, 1e4]]), "fp32", True),  # each column has its own range
        (np.float32([[0.0]]), np.float32([[0.0]]), "fp32", False),
    ],
)
def test_the_tolerance_belongs_to_the_precision(batched: Any, alone: Any, precision: str, refused: bool) -> None:
    class Stub:
        batch = 50

    stub: Any = Stub()
    stub.precision = precision
    if not refused:
        rows.refuse_batch_dependence(batched, alone, np.array([0]), stub, "b")
        return
    with pytest.raises(BackendError, match="sample 0 of bundle b differs"):
        rows.refuse_batch_dependence(batched, alone, np.array([0]), stub, "b")


@pytest.mark.parametrize(("turned", "refused"), [(0, False), (1, False), (36, False), (37, True)])
def test_rounding_turns_a_quarter_of_the_booleans_of_an_array_over_at_most(turned: int, refused: bool) -> None:
    class Stub:
        batch = 50

    stub: Any = Stub()
    alone_R = np.zeros((4, 6, 6, 1), bool)
    batched_R = alone_R.copy()
    batched_R.reshape(-1)[:turned] = True
    if not refused:
        rows.refuse_other_decisions(batched_R, alone_R, np.arange(4), stub, "mask of bundle b")
        return
    with pytest.raises(BackendError, match=r"field mask of bundle b is another one in 2 of 4 samples, sample 0 first"):
        rows.refuse_other_decisions(batched_R, alone_R, np.arange(4), stub, "mask of bundle b")


def test_a_generator_of_boolean_arrays_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a plug-in's kind may be: no kind of this package is."""
    monkeypatch.setattr(Vector, "dtypes", ("float32", "bool"))
    weights = {"w": np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32), "zero": np.float32(0)}
    nodes = [
        helper.make_node("MatMul", ["latents", "w"], ["h"]),
        helper.make_node("Greater", ["h", "zero"], ["pixels"]),
    ]
    generator = graph(nodes, weights, (8,), name="latents", output="pixels", output_type=TensorProto.BOOL)
    bundle = write_bundle(
        tmp_path / "b.gen",
        name="b",
        latent=LatentSpec(dim=8, distribution="normal"),
        labels=None,
        output=OutputSpec(kind="vector", shape=(5,), dtype="bool"),
        generator=generator,
        training={},
        parity={},
    )
    run_job(bundle, tmp_path / "out", count=50)
    with open_dataset(tmp_path / "out") as dataset:
        stored = dataset[49]["sample"]
    latents = Latents(dim=8, seed=0).draw(49, 50)
    assert stored.tolist() == (latents @ weights["w"] > 0)[0].tolist()


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_gigabytes_are_refused_at_once(tmp_path: Path, backend: str, folded: bool) -> None:
    """In a process of its own: the limit holds where nothing else runs, and what it used is seen when it ended."""
    bundle = odd_bundle(tmp_path / "b.gen", partial(ten_gigabytes, folded))
    code, said, seconds, peak = sample(bundle, tmp_path, "--backend", backend)
    assert code == 4
    if backend == "onnxruntime" or folded:  # at 10 GiB openvino may give other reasons first
        assert "does not fit into memory" in said
        assert "--limit first-batch-gib=VALUE" in said
    assert seconds < 15
    assert peak < 1.5 * 2**30


@pytest.mark.parametrize("make", [endless_loop, endless_loop_of_constants])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_without_an_end_is_stopped(tmp_path: Path, backend: str, make: Callable[[], bytes]) -> None:
    bundle = odd_bundle(tmp_path / "b.gen", make)
    code, said, seconds, _ = sample(bundle, tmp_path, "--backend", backend, seconds=1)
    assert code == 4
    assert "the first batch of 50 was stopped: it did not end within 1 s" in said
    assert "--limit first-batch-seconds=VALUE" in said
    assert seconds < 10


@pytest.mark.parametrize("make", [endless_loop, endless_loop_of_constants])
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_ends_a_loop_within_a_second(tmp_path: Path, backend: str, make: Callable[[], bytes]) -> None:
    bundle = odd_bundle(tmp_path / "b.gen", make)
    process = start(bundle, tmp_path, "--backend", backend)
    time.sleep(4)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert time.monotonic() - began < 2  # one second, and a machine that is shared
    assert process.returncode == 130


def start(bundle: Bundle, tmp_path: Path, *flags: str, seconds: float | None = None) -> subprocess.Popen[str]:
    environment = dict(os.environ)
    if seconds is not None:
        environment["GEN_ENGINE_LIMITS"] = f"first-batch-seconds={seconds}"
    command = [sys.executable, "-m", "gen_engine.cli.main", "sample", str(bundle.path), "--count", "100"]
    return subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # may be ignored where we run
    )


def sample(bundle: Bundle, tmp_path: Path, *flags: str, seconds: float | None = None) -> tuple[int, str, float, int]:
    """Return the exit code, what was printed, the seconds and the most memory that it used."""
    began = time.monotonic()
    process = start(bundle, tmp_path, *flags, seconds=seconds)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    return process.returncode, said, time.monotonic() - began, usage.ru_maxrss * 1024


def test_large_samples_and_weights_may_take_longer_and_more(tiny: Bundle) -> None:
    small = allowance.Allowance.of(tiny, 1 << 20, 50)
    assert 15 < small.seconds < 17
    assert 2**30 < small.memory < 1.1 * 2**30
    heavy = allowance.Allowance.of(tiny, 400 << 20, 50)
    assert heavy.seconds > 200
    assert heavy.memory > 4 * 2**30
