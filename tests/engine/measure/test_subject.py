"""What may be timed, what it is timed with, and what is compared with what."""

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
from gen_engine.engine.identity.variants import add_variant
from gen_engine.engine.measure import bench
from gen_engine.engine.measure.calibration import KERNELS, available, kernels
from gen_engine.engine.measure.guard import TARGET, Round, Series
from gen_engine.engine.measure.machine import fingerprint
from gen_engine.engine.measure.record import Record
from gen_engine.engine.measure.subject import CANONICAL_FORM, Form, Subject, open_subject, refuse_wrong


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "tiny.gen", size=6)


def test_it_opens_what_a_job_would_run(tiny: Bundle) -> None:
    assert open_subject(tiny, Form()).to_json()["origin"] == "canonical"
    fast = with_variant(tiny, target="onnxruntime")
    found = open_subject(fast, Form())
    assert (found.graph.origin, found.backend.batch) == ("onnxruntime-fp32", 4)
    assert open_subject(fast, CANONICAL_FORM).graph.origin == "canonical"
    assert open_subject(fast, Form(batch=7)).backend.batch == 7
    assert found.samples == open_subject(fast, Form()).samples


def test_a_variant_that_makes_other_samples_is_not_timed(tiny: Bundle, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1)
    wrong = add_variant(tiny, make_variant(tiny, "onnxruntime"), {GENERATOR: other.load(GENERATOR)})
    with pytest.raises(WrongSamples, match=r"onnxruntime-fp32 of .* PSNR \d+\.\d dB, at least 50 .* It is not timed"):
        open_subject(wrong, Form())
    open_subject(wrong, CANONICAL_FORM)


RIGHT = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (np.full((16, 8), np.nan, np.float32), "NaN or infinite"),
        (np.repeat(RIGHT[:1], 16, axis=0), "the same sample of every latent"),
        (RIGHT[::-1], "other samples than its generator: PSNR"),
        (RIGHT[:, :2], "other samples than its generator: PSNR -inf dB"),
    ],
)
def test_samples_that_are_none(made: np.ndarray, said: str) -> None:
    with pytest.raises(WrongSamples, match=said) as caught:
        refuse_wrong(made, RIGHT, "bf16", what="it")
    assert caught.value.exit_code == 6


def test_rounding_is_not_wrong() -> None:
    near = np.clip(RIGHT.astype(int) + 2 * np.tile([1, -1], RIGHT.size // 2).reshape(RIGHT.shape), 0, 255)
    refuse_wrong(near.astype(np.uint8), RIGHT, "bf16", what="it")
    with pytest.raises(WrongSamples):
        refuse_wrong(near.astype(np.uint8), RIGHT, "fp32", what="it")
    refuse_wrong(RIGHT, RIGHT, "fp32", what="it")


def test_a_batch_that_cannot_be() -> None:
    with pytest.raises(RequestError, match="batch 0: it must be between 1 and"):
        Form(batch=0)


def record_of(subject: Subject) -> Record:
    names = (TARGET, *available())
    one = Round(processor=dict.fromkeys(names, 3.0), elapsed=dict.fromkeys(names, 3.0), others=0.0)
    return Record(
        bundle={"name": "tiny", "digest": subject.bundle.digest, "generator": subject.bundle.generator_id},
        timed=subject.to_json(),
        samples=subject.samples,
        machine=fingerprint(),
        series=Series(weights=bench.mix(available()), rounds=[one] * 12),
        made="2026-11-24T12:00:00+00:00",
    )


def refused(record: Record, subject: Subject, *, machine: bool = False, generator: bool = False) -> list[str]:
    return bench.refuse_other(Path("base.json"), record, subject, other_machine=machine, other_generator=generator)


def test_a_record_of_another_machine_is_refused_unless_asked_for(tiny: Bundle) -> None:
    subject = open_subject(tiny, Form())
    record = record_of(subject)
    assert refused(record, subject) == []
    libraries = {**record.machine["libraries"], "numpy": "1.0"}
    other = replace(record, machine={**record.machine, "processor": "another", "libraries": libraries})
    with pytest.raises(
        RecordError, match=r"another machine \(libraries.numpy: '1.0' there, .*; processor: 'another' the"
    ):
        refused(other, subject)
    assert "processor: 'another' there" in refused(other, subject, machine=True)[0]


def test_a_record_of_another_generator_is_refused_unless_asked_for(tiny: Bundle, tmp_path: Path) -> None:
    other = open_subject(make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1), Form())
    mine = open_subject(tiny, Form())
    with pytest.raises(
        RecordError, match=r"is of another generator \(tiny, .*; this is other, .*--allow-other-generator"
    ):
        refused(record_of(mine), other)
    assert refused(record_of(mine), other, generator=True)[0] == "the baseline is of another generator, tiny"
    with pytest.raises(RequestError, match="are different generators"):
        bench.refuse_other_generator(mine, other, allowed=False)
    assert bench.refuse_other_generator(mine, other, allowed=True)
    assert bench.refuse_other_generator(mine, mine, allowed=False) == []


def test_the_same_graph_that_makes_other_samples_here_is_not_timed(tiny: Bundle) -> None:
    subject = open_subject(tiny, Form())
    with pytest.raises(WrongSamples, match=r"other samples than when base\.json was measured"):
        refused(replace(record_of(subject), samples="0" * 64), subject)


def test_another_form_of_the_same_generator_is_compared_and_said(tiny: Bundle) -> None:
    record = record_of(open_subject(tiny, Form()))
    assert refused(record, open_subject(tiny, Form(batch=7))) == ["batch was 50, is 7"]


def test_calibration_says_nothing_of_a_gpu(tiny: Bundle) -> None:
    subject = open_subject(tiny, Form())
    subject.backend.device = "cuda:0"
    with pytest.raises(RequestError, match=r"device 'cuda:0': .*--against"):
        bench.measure(subject, limit_s=1)


@pytest.mark.parametrize("name", KERNELS)
def test_each_workload_takes_turns(name: str) -> None:
    if name not in available():
        pytest.skip(f"{name} does not run here, so it takes part in no round here")
    with contextlib.closing(kernels((name,), threads=2)[name]) as kernel:
        kernel.warm_up()
        spent = kernel.spend()
    assert spent.work >= 2
    assert spent.elapsed > 0
    assert spent.processor > 0


@pytest.mark.parametrize(("name", "kind"), [("matmul-bf16", "bf16"), ("matmul-int8", "u8")])
def test_a_matrix_product_is_computed_in_its_precision(name: str, kind: str) -> None:
    if name not in available():
        pytest.skip(f"this processor does not compute in {kind}")
    work = KERNELS[name]()
    layers = list(_matrix_layers(work.__self__.get_compiled_model()))  # type: ignore[attr-defined]
    assert len(layers) == 4
    assert {layer.precision for layer in layers} == {kind}


def test_the_mix_is_of_what_there_is() -> None:
    assert bench.mix(("matmul-fp32", "copy", "small-kernels")) == {"matmul-fp32": 1.0}
    assert sum(bench.mix(tuple(KERNELS)).values()) == pytest.approx(1.0)
