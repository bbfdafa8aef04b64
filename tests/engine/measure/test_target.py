"""Benchmark targets, the calibration workloads, and which measurements are comparable."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import make_tiny_bundle
from tiny_variant import make_variant, with_variant

from gen_engine.engine.backends.openvino import _matrix_layers
from gen_engine.engine.errors import RecordError, RequestError, WrongSamples
from gen_engine.engine.identity.bundle import GENERATOR, Bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.identity.variants import add_variant
from gen_engine.engine.measure import bench
from gen_engine.engine.measure.calibration import WORKLOADS, available, open_workloads
from gen_engine.engine.measure.machine import this_machine
from gen_engine.engine.measure.record import BundleIdentity, Record
from gen_engine.engine.measure.sequential_test import TARGET, Round, Series
from gen_engine.engine.measure.target import BenchTarget, check_samples, open_target


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "tiny.gen", size=6)


def test_it_opens_what_a_job_would_run(tiny: Bundle) -> None:
    assert open_target(tiny, Runtime()).configuration().origin == "canonical"
    fast = with_variant(tiny, target="onnxruntime")
    target = open_target(fast, Runtime())
    assert (target.graph.origin, target.backend.batch) == ("onnxruntime-fp32", 4)
    assert open_target(fast, Runtime(), canonical=True).graph.origin == "canonical"
    assert open_target(fast, Runtime(batch=7)).backend.batch == 7
    assert target.samples == open_target(fast, Runtime()).samples


def test_a_variant_that_makes_other_samples_is_not_timed(tiny: Bundle, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1)
    wrong = add_variant(tiny, make_variant(tiny, "onnxruntime"), {GENERATOR: other.load(GENERATOR)})
    with pytest.raises(WrongSamples, match=r"onnxruntime-fp32 of .* PSNR \d+\.\d dB, at least 50 .* It is not timed"):
        open_target(wrong, Runtime())
    open_target(wrong, Runtime(), canonical=True)


REFERENCE = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.full((16, 8), np.nan, np.float32), "NaN or infinite"),
        (np.repeat(REFERENCE[:1], 16, axis=0), "the same sample of every latent"),
        (REFERENCE[::-1], "other samples than its generator: PSNR"),
        (REFERENCE[:, :2], "other samples than its generator: PSNR -inf dB"),
    ],
)
def test_wrong_samples(samples: np.ndarray, message: str) -> None:
    with pytest.raises(WrongSamples, match=message) as caught:
        check_samples(samples, REFERENCE, "bf16", what="it")
    assert caught.value.exit_code == 6


def test_rounding_errors_are_accepted() -> None:
    rounded = np.clip(
        REFERENCE.astype(int) + 2 * np.tile([1, -1], REFERENCE.size // 2).reshape(REFERENCE.shape), 0, 255
    )
    check_samples(rounded.astype(np.uint8), REFERENCE, "bf16", what="it")
    with pytest.raises(WrongSamples):
        check_samples(rounded.astype(np.uint8), REFERENCE, "fp32", what="it")
    check_samples(REFERENCE, REFERENCE, "fp32", what="it")


def record_of(target: BenchTarget) -> Record:
    names = (TARGET, *available())
    one = Round(processor=dict.fromkeys(names, 3.0), elapsed=dict.fromkeys(names, 3.0), background_load=0.0)
    return Record(
        bundle=BundleIdentity(name="tiny", digest=target.bundle.digest, generator=target.bundle.generator_id),
        timed=target.configuration(),
        samples=target.samples,
        machine=this_machine(),
        series=Series(weights=bench.calibration_weights(available()), rounds=[one] * 12),
        made="2026-11-24T12:00:00+00:00",
    )


def check(record: Record, target: BenchTarget, *, machine: bool = False, generator: bool = False) -> list[str]:
    return bench.check_comparable(Path("base.json"), record, target, other_machine=machine, other_generator=generator)


def test_a_record_of_another_machine_is_refused_unless_allowed(tiny: Bundle) -> None:
    target = open_target(tiny, Runtime())
    record = record_of(target)
    assert check(record, target) == []
    libraries = {**record.machine.libraries, "numpy": "1.0"}
    other = replace(record, machine=replace(record.machine, processor="another", libraries=libraries))
    with pytest.raises(
        RecordError, match=r"another machine \(libraries.numpy: '1.0' there, .*; processor: 'another' the"
    ):
        check(other, target)
    assert "processor: 'another' there" in check(other, target, machine=True)[0]


def test_a_record_of_another_generator_is_refused_unless_allowed(tiny: Bundle, tmp_path: Path) -> None:
    other = open_target(make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1), Runtime())
    mine = open_target(tiny, Runtime())
    with pytest.raises(
        RecordError, match=r"is of another generator \(tiny, .*; this is other, .*--allow-other-generator"
    ):
        check(record_of(mine), other)
    assert check(record_of(mine), other, generator=True)[0] == "the baseline is of another generator, tiny"
    with pytest.raises(RequestError, match="are different generators"):
        bench.check_same_generator(mine, other, other_generator=False)
    assert bench.check_same_generator(mine, other, other_generator=True)
    assert bench.check_same_generator(mine, mine, other_generator=False) == []


def test_the_same_graph_that_makes_other_samples_here_is_not_timed(tiny: Bundle) -> None:
    target = open_target(tiny, Runtime())
    with pytest.raises(WrongSamples, match=r"other samples than when base\.json was measured"):
        check(replace(record_of(target), samples="0" * 64), target)


def test_another_runtime_of_the_same_generator_is_compared_with_a_note(tiny: Bundle) -> None:
    record = record_of(open_target(tiny, Runtime()))
    assert check(record, open_target(tiny, Runtime(batch=7))) == ["batch was 50, is 7"]


def test_calibration_does_not_apply_to_a_gpu(tiny: Bundle) -> None:
    target = open_target(tiny, Runtime())
    target.backend.device = "cuda:0"
    with pytest.raises(RequestError, match=r"device 'cuda:0': .*--against"):
        bench.measure(target, limit_s=1)


@pytest.mark.parametrize("name", WORKLOADS)
def test_each_workload_takes_turns(name: str) -> None:
    if name not in available():
        pytest.skip(f"this machine cannot run {name}, so its baselines do without")
    with contextlib.closing(open_workloads((name,), threads=2)[name]) as workload:
        workload.warm_up()
        timing = workload.run_turn()
    assert timing.work >= 2
    assert timing.elapsed > 0
    assert timing.processor > 0


@pytest.mark.parametrize(("name", "kind"), [("matmul-bf16", "bf16"), ("matmul-int8", "u8")])
def test_a_matrix_product_is_computed_in_its_precision(name: str, kind: str) -> None:
    if name not in available():
        pytest.skip(f"this processor does not compute in {kind}")
    piece = WORKLOADS[name]()
    layers = list(_matrix_layers(piece.__self__.get_compiled_model()))  # type: ignore[attr-defined]
    assert len(layers) == 4
    assert {layer.precision for layer in layers} == {kind}


def test_the_weights_are_of_the_matrix_products_that_run_here() -> None:
    assert bench.calibration_weights(("matmul-fp32", "copy", "small-kernels")) == {"matmul-fp32": 1.0}
    assert sum(bench.calibration_weights(tuple(WORKLOADS)).values()) == pytest.approx(1.0)
