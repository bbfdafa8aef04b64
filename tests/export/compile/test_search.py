"""Compiling: candidates, rounds, the gate, and what is kept of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from odd_graphs import odd_bundle, other_above

from gen_engine.engine.backends import open_backend
from gen_engine.engine.errors import BackendError, BackendUnavailable, OutputError, RequestError
from gen_engine.engine.identity.bundle import Bundle, LabelSpec, LatentSpec, OutputSpec, read_bundle, write_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.identity.variants import canonical_graph, read_variants
from gen_engine.engine.measure.rounds import Runner, relative_speeds
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.run.job import open_job
from gen_engine.export.compile import candidates, race, search
from gen_engine.export.compile.candidates import RECIPES, Candidate, Options, batches_of, computes, graphs_of
from gen_engine.export.compile.gate import LIMITS
from gen_engine.export.compile.lower import LOWERINGS
from gen_engine.export.compile.race import Race, Rung, successive_halving
from gen_engine.export.compile.search import compile_bundle
from gen_engine.export.errors import GateError
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.models import ModelConfig, build_generator

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

SHORT = 3.0
"""A budget that is enough for a generator of this size."""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    torch.manual_seed(0)
    config = ModelConfig(family="dcgan", image_size=28, num_classes=3, width=8, latent_dim=16)
    generator = build_generator(config)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, 0, 0.15)
    return write_bundle(
        tmp_path / "small.gen",
        name="small",
        latent=LatentSpec(dim=16, distribution="normal"),
        labels=LabelSpec(names=("a", "b", "c")),
        output=OutputSpec(kind="image", shape=(28, 28, 1)),
        generator=to_onnx(generator.eval()),
        training={},
        parity={},
    )


def test_the_recipes_name_lowerings_in_their_order() -> None:
    order = list(LOWERINGS)
    for names in RECIPES.values():
        assert list(names) == sorted(names, key=order.index)


def test_what_is_kept(bundle: Bundle) -> None:
    said: list[str] = []
    found = compile_bundle(bundle, Options(budget=SHORT), progress=said.append)
    assert read_bundle(bundle.path).digest == found.bundle.digest != bundle.digest
    assert found.bundle.generator_id == bundle.generator_id
    (variant,) = read_variants(found.bundle)
    assert variant == found.variant
    assert variant.gate["passed"] is True
    assert variant.kernels
    assert variant.speedup is not None
    kept = [row for row in variant.table if row["left"] is None]
    assert [(row["target"], row["precision"], row["batch"]) for row in kept] == [
        (variant.target, variant.precision, variant.batch)
    ]
    assert RECIPES[kept[0]["recipe"]] == variant.lowerings
    assert {row["precision"] for row in variant.table} >= {"fp32"}
    assert any(sentence.startswith("timing") for sentence in said)


def test_a_job_runs_what_was_kept(bundle: Bundle) -> None:
    compiled = compile_bundle(bundle, Options(budget=SHORT, target="openvino", precision="fp32"))
    job = open_job(SampleRequest(count=100, runtime=Runtime(backend="openvino")), compiled.bundle)
    assert (job.plan.compute.backend, job.plan.compute.precision) == ("openvino", "fp32")
    assert job.plan.compute.batch == compiled.variant.batch
    naive = open_job(
        SampleRequest(count=100, runtime=Runtime(backend="onnxruntime", batch=compiled.variant.batch)), bundle
    )
    assert np.abs(job.first_batch["image"].astype(int) - naive.first_batch["image"]).max() <= 1


@pytest.mark.skipif("bf16" not in computes("openvino"), reason="this processor has no bf16 kernels")
def test_bf16_runs_in_bf16(bundle: Bundle) -> None:
    variant = compile_bundle(bundle, Options(budget=SHORT, precision="bf16")).variant
    assert (variant.name, variant.target) == ("openvino-bf16", "openvino")
    assert all("bf16" in kernel for kernel in variant.kernels)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_int8_is_asked_for_by_name(bundle: Bundle) -> None:
    by_itself = compile_bundle(bundle, Options(budget=SHORT))
    assert "int8" not in {row["precision"] for row in by_itself.variant.table}
    # A generator of noise is no generator to be fair to: what is tested is what it runs in.
    limits = dataclasses.replace(LIMITS["int8"], set_distance=10.0)
    options = Options(budget=SHORT, target="onnxruntime", precision="int8", limits=limits)
    variant = compile_bundle(by_itself.bundle, options).variant
    assert variant.name == "onnxruntime-int8"
    assert any(kernel.startswith(("QLinear", "QGemm")) for kernel in variant.kernels), variant.kernels


def test_several_variants_live_together(bundle: Bundle) -> None:
    first = compile_bundle(bundle, Options(budget=SHORT, target="onnxruntime", precision="fp32")).bundle
    both = compile_bundle(first, Options(budget=SHORT, target="openvino", precision="fp32")).bundle
    assert [variant.name for variant in read_variants(both)] == ["onnxruntime-fp32", "openvino-fp32"]


def test_nothing_is_written_if_none_is_faithful(bundle: Bundle) -> None:
    limits = dataclasses.replace(LIMITS["fp32"], set_distance=0.5)  # nearer than fp32 itself
    with pytest.raises(GateError, match="no candidate is faithful enough, so nothing was written"):
        compile_bundle(bundle, Options(budget=SHORT, precision="fp32", limits=limits))
    assert read_bundle(bundle.path).digest == bundle.digest


def test_a_wrong_lowering_does_not_pass(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is the last to detect that a rewrite makes other images."""
    real = candidates.lower

    def wrong(model: bytes, names: tuple[str, ...], **how: object) -> object:
        lowered = real(model, names, **how)
        if not names:
            return lowered
        broken = onnx.load_from_string(lowered.model)
        for tensor in broken.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            if array.ndim == 4:
                tensor.CopyFrom(onnx.numpy_helper.from_array(array[::-1].copy(), tensor.name))
        return dataclasses.replace(lowered, model=broken.SerializeToString())

    monkeypatch.setattr(candidates, "lower", wrong)
    # All as fast as each other: then the lowered ones, which enter first, are compared first.
    monkeypatch.setattr(race, "relative_speeds", lambda peer, others, seconds: [1.5] * len(others))
    variant = compile_bundle(bundle, Options(budget=SHORT, precision="fp32", target="onnxruntime")).variant
    assert variant.lowerings == ()
    assert any("PSNR" in (row["left"] or "") for row in variant.table)


def test_a_copy(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "copy.gen"
    compiled = compile_bundle(bundle, Options(budget=SHORT, target="onnxruntime", precision="fp32"), out=out)
    assert compiled.bundle.path == out
    assert read_bundle(bundle.path).digest == bundle.digest
    assert not read_variants(bundle)
    began: list[str] = []
    with pytest.raises(OutputError, match=r"copy\.gen exists; choose another --out$"):
        compile_bundle(bundle, Options(), out=out, progress=began.append)
    assert not began, "it said so after the work"


def test_what_no_runtime_computes(bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailable, match="onnxruntime does not compute in bf16 on this processor"):
        compile_bundle(bundle, Options(budget=SHORT, target="onnxruntime", precision="bf16"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "tpu"}, "target 'tpu': known are auto, openvino, onnxruntime, tensorrt, tensorrt-rtx"),
        ({"precision": "fp4"}, "precision 'fp4': known are auto, fp32"),
        ({"device": "cuda:1"}, "device 'cuda:1': known are cpu, cuda"),
        ({"device": "cuda", "target": "openvino"}, "target 'openvino': it runs on no GPU"),
        ({"max_batch": 0}, "max batch 0: it must be at least 1"),
        ({"budget": 0.0}, "budget 0 s: it must be above 0"),
        ({"budget": float("nan")}, "budget nan s: it must be above 0"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Options(**options)


def test_on_a_gpu_onnxruntime_is_tried_in_what_it_computes_there(bundle: Bundle) -> None:
    options = Options(device="cuda", max_batch=2000)
    assert options.targets == ("onnxruntime",)
    assert {found[:2] for found in graphs_of(bundle, options, lambda said: None)} == {
        ("onnxruntime", "fp16"),
        ("onnxruntime", "fp32"),
    }
    assert batches_of(bundle, options)[-1] == 2000  # no cache of a processor holds it
    refused: list[str] = []
    assert not list(graphs_of(bundle, dataclasses.replace(options, precision="bf16"), refused.append))
    assert refused == ["onnxruntime does not compute in bf16 on a GPU"]


def test_the_most_samples_a_call(bundle: Bundle) -> None:
    variant = compile_bundle(bundle, Options(budget=SHORT, max_batch=20, precision="fp32")).variant
    assert max(row["batch"] for row in variant.table) <= 20


def test_a_runner_draws_what_a_renderer_does(bundle: Bundle) -> None:
    backend = open_backend("openvino", bundle, canonical_graph(bundle), device="cpu", batch=7)
    with contextlib.closing(Runner(backend, bundle, lanes=3)) as runner:
        drawn = runner.draw(seed=5, samples=40)["image"]

    class Cycle:
        def draw(self, start: int, stop: int) -> NDArray[np.int64]:
            return np.arange(start, stop) % 3

    with contextlib.closing(
        Renderer(backend.open_stream(), 7, Latents(dim=16, seed=5), Cycle(), bundle.schema())
    ) as renderer:
        np.testing.assert_array_equal(drawn, renderer.array(0, 40)["image"])


def test_rounds_tell_fast_from_slow(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """By turns of known length: no clock of this machine decides."""
    graph = canonical_graph(bundle)

    def runner() -> Runner:
        return Runner(open_backend("onnxruntime", bundle, graph, device="cpu", batch=2), bundle, lanes=1)

    with contextlib.closing(runner()) as peer, contextlib.closing(runner()) as other:
        speeds = iter([10.0, 30.0, 5.0, 15.0, 1.0, 1.0] * 100)  # the last round: a machine that stalled
        monkeypatch.setattr(Runner, "throughput", lambda self: next(speeds))
        began = time.perf_counter()
        assert relative_speeds(peer, [other], seconds=0.0) == [3.0]
        assert time.perf_counter() - began < 60


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("precision", ["auto", "tf32", "bf16"])
def test_an_engine_is_kept_and_not_claimed_to_be_fast(bundle: Bundle, precision: str) -> None:
    compiled = compile_bundle(bundle, Options(target="tensorrt-rtx", precision=precision))
    (variant,) = read_variants(compiled.bundle)
    assert variant.name == f"tensorrt-rtx-{'fp16' if precision == 'auto' else precision}"
    assert (variant.speedup, variant.gate["passed"]) == (None, None)
    record = json.loads(compiled.bundle.load(f"variants/{variant.name}/engine.json"))
    plan = compiled.bundle.files[f"variants/{variant.name}/engine.plan"]
    graph = compiled.bundle.files[f"variants/{variant.name}/generator.onnx"]
    assert (record["plan_sha256"], record["onnx_sha256"]) == (plan.sha256, graph.sha256)
    job = open_job(SampleRequest(count=10), compiled.bundle)
    assert job.plan.compute.backend == "onnxruntime"


def test_one_that_the_budget_did_not_reach_is_kept_if_no_other_is_faithful(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime may have one kernel that is wrong, and compile then has to go on, not to give up."""
    honest, wrong = search.compare, []

    def compare(*args: object) -> object:
        found = honest(*args)
        if not wrong:
            wrong.append(True)
            return dataclasses.replace(found, failures=("wrong",))
        return found

    monkeypatch.setattr(search, "compare", compare)
    options = Options(budget=1e-6, target="openvino", precision="fp32")
    variant = compile_bundle(bundle, options).variant
    assert variant.speedup is None
    first, *others = (row["left"] for row in variant.table)
    assert first == "wrong"
    assert others.count(None) == 1


def test_a_bundle_that_no_job_would_run_is_not_compiled(tmp_path: Path) -> None:
    mixing = odd_bundle(tmp_path / "b.gen", partial(other_above, 40))
    with pytest.raises(BackendError, match="computes something else at another batch"):
        compile_bundle(mixing, Options(budget=SHORT))


class TestSuccessiveHalving:
    class Stub:
        """A runner of known speed."""

        def __init__(self, speed: float) -> None:
            self.speed, self.closed = speed, False

        def warm_up(self) -> None:
            if self.speed < 0:
                raise BackendError("it does not run")

        def close(self) -> None:
            self.closed = True

    def contest(self, monkeypatch: pytest.MonkeyPatch, speeds: list[float]) -> tuple[Race, list[Candidate], list[Stub]]:
        runners = [self.Stub(speed) for speed in speeds]
        made = [
            Candidate(target="t", recipe=str(i), precision="fp32", batch=1, graph=None)  # type: ignore[arg-type]
            for i in range(len(speeds))
        ]
        monkeypatch.setattr(race, "relative_speeds", lambda peer, others, seconds: [one.speed for one in others])
        peer: Any = self.Stub(1.0)
        opener: Any = lambda candidate: runners[int(candidate.recipe)]  # noqa: E731
        return Race(peer, opener, seconds=100.0, on_progress=lambda _: None), made, runners

    def test_the_fastest_stay_open_and_the_rest_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        contest, made, runners = self.contest(monkeypatch, [1.0, 4.0, -1.0, 3.0, 2.0])
        with contest:
            rungs = [Rung(entrants=made[:4], closes=1.0, seconds=1, keep=2)]
            successive_halving(contest, [*rungs, Rung(entrants=made[4:], closes=1.0, seconds=1, keep=1)])
            assert contest.leaders() == [made[1]]
            assert [one.left for one in made] == ["slower", None, "it does not run", "slower", "slower"]
            assert [one.closed for one in runners] == [True, False, False, True, True]
        assert runners[1].closed

    def test_later_rungs_see_who_leads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        contest, made, _ = self.contest(monkeypatch, [1.0, 4.0, 3.0])
        led: list[Candidate] = []

        def rungs() -> Iterator[Rung]:
            yield Rung(entrants=made[:2], closes=1.0, seconds=1, keep=1)
            led.extend(contest.leaders())
            yield Rung(entrants=made[2:], closes=1.0, seconds=1, keep=1)

        with contest:
            successive_halving(contest, rungs())
        assert led == [made[1]]

    def test_what_is_late_is_on_the_table_and_not_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        contest, made, _ = self.contest(monkeypatch, [1.0, 2.0])
        with contest:
            successive_halving(contest, [Rung(entrants=made, closes=-1.0, seconds=1, keep=1)])
        assert (made[0].left, made[1].left) == (None, "the budget did not reach it")
