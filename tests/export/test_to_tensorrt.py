"""Engines: really built by TensorRT-RTX without a GPU, and by a stand-in that fails where TensorRT fails silently."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_tensorrt import FakeTensorRT
from graphs import graph, operators, run
from onnx import helper

from gen_engine.engine.digests import sha256_bytes
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.export import to_tensorrt
from gen_engine.export.errors import EngineBuildError
from gen_engine.export.lower import lower
from gen_engine.export.precision import cast, quantize
from gen_engine.export.to_onnx import to_onnx
from gen_engine.export.to_tensorrt import (
    PLAN,
    RECORD,
    BuildOptions,
    EngineRecord,
    Gpu,
    build_engine,
    cast_last,
    load_tensorrt,
    read_or_build,
    stale_reasons,
)
from gen_engine.train.models import ModelConfig, build_generator

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
GPU = Gpu(name="Fake GPU", compute_capability="9.0", driver="580.1")
OTHER = Gpu(name="Other GPU", compute_capability="8.9", driver="580.1")
ZOO = [
    ("mlp-gan", 28, 0),
    ("mlp-vae", 28, 5),
    ("dcgan", 28, 5),
    ("dcgan", 32, 0),
    ("dcgan", 64, 0),
    ("conv-vae", 28, 0),
    ("conv-vae", 64, 3),
]


def generator(name: str, size: int, classes: int) -> bytes:
    torch.manual_seed(0)
    config = ModelConfig(family=name, image_size=size, num_classes=classes, width=8, latent_dim=16, hidden=32)
    return to_onnx(build_generator(config).eval())


def pixels_only(model: bytes, precision: str) -> bytes:
    names = ("batchnorm", "dense", "subpixel") if precision in ("bf16", "int8") else ()
    return lower(model, names, outputs=["pixels"]).model


def dense() -> bytes:
    nodes = [helper.make_node("Gemm", ["latents", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["pixels"])]
    return graph(nodes, {"w": np.eye(8, dtype=np.float32)}, (8,), name="latents", output="pixels")


@pytest.fixture(autouse=True)
def no_logger_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: log for name, log in to_tensorrt._LOGGERS.items() if name == "tensorrt_rtx"}
    monkeypatch.setattr(to_tensorrt, "_LOGGERS", kept)  # the real one is the process's, as it has to be


@needs_rtx
class TestRealBuilds:
    @pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
    @pytest.mark.parametrize(("name", "size", "classes"), ZOO)
    def test_the_zoo(self, name: str, size: int, classes: int, precision: str) -> None:
        typed = cast(pixels_only(generator(name, size, classes), precision), precision.replace("tf32", "fp32"))
        steps: list[tuple[str, int, int]] = []
        built = build_engine(
            typed,
            BuildOptions(precision=precision, min_batch=1, opt_batch=16, max_batch=64),
            trt=load_tensorrt("tensorrt-rtx"),
            progress=lambda *step: steps.append(step),
        )
        assert len(built.plan) > 10_000
        assert built.record.tensors["pixels"] == {"mode": "output", "dtype": "UINT8", "shape": [-1, size, size, 1]}
        assert built.record.tensors["latents"]["shape"] == [-1, 16]
        assert ("labels" in built.record.tensors) is (classes > 0)
        assert built.record.onnx_sha256 == sha256_bytes(typed)
        assert built.record.inspected == "not inspected: built without a GPU"
        assert steps

    @pytest.mark.filterwarnings("ignore")
    def test_int8(self) -> None:
        lowered = pixels_only(generator("dcgan", 28, 0), "int8")
        feeds = {"latents": np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)}
        typed = quantize(lowered, [feeds], quantize_bias=False)
        built = build_engine(typed, BuildOptions(precision="int8"), trt=load_tensorrt("tensorrt-rtx"))
        assert len(built.plan) > 10_000

    def test_a_refused_graph_says_why(self) -> None:
        nodes = [
            helper.make_node("Gemm", ["latents", "w"], ["h"]),
            helper.make_node("Reshape", ["h", "square"], ["m"]),
            helper.make_node("Det", ["m"], ["pixels"]),
        ]
        constants = {"w": np.eye(8, 4, dtype=np.float32), "square": np.array([-1, 2, 2])}
        model = graph(nodes, constants, (8,), name="latents", output="pixels")
        with pytest.raises(EngineBuildError, match=r"tensorrt_rtx .* refused the graph: .*Det"):
            build_engine(model, BuildOptions(), trt=load_tensorrt("tensorrt-rtx"))

    def test_an_engine_does_not_open_without_a_gpu_and_we_say_so(self) -> None:
        trt = load_tensorrt("tensorrt-rtx")
        built = build_engine(dense(), BuildOptions(), trt=trt)
        if trt.Runtime(to_tensorrt.logger_of(trt).sink).deserialize_cuda_engine(built.plan) is not None:
            pytest.skip("there is a GPU here")
        with pytest.raises(EngineBuildError, match=r"cannot open the engine that it just built on Fake GPU"):
            build_engine(dense(), BuildOptions(), trt=trt, gpu=GPU)

    def test_one_logger_hears_every_build(self) -> None:
        trt = load_tensorrt("tensorrt-rtx")
        assert to_tensorrt.logger_of(trt) is to_tensorrt.logger_of(trt)


def test_uint8_is_made_last() -> None:
    model = pixels_only(generator("dcgan", 28, 0), "fp32")
    moved = cast_last(model)
    assert operators(model)[-1] == "Transpose"
    assert operators(moved)[-1] == "Cast"
    feeds = {"latents": np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)}
    np.testing.assert_array_equal(run(moved, feeds)[0], run(model, feeds)[0])
    assert cast_last(moved) == moved


class TestTypes:
    def test_a_graph_of_another_precision(self) -> None:
        with pytest.raises(RequestError, match=r"precision 'bf16': Gemm .* has weights in FLOAT; cast the graph first"):
            build_engine(dense(), BuildOptions(precision="bf16"), trt=FakeTensorRT())

    def test_bf16_with_a_transposed_convolution(self) -> None:
        typed = cast(lower(generator("dcgan", 28, 0), (), outputs=["pixels"]).model, "bf16")
        with pytest.raises(RequestError, match=r"no ConvTranspose in it .* lowerings dense and subpixel"):
            build_engine(typed, BuildOptions(precision="bf16"), trt=FakeTensorRT())

    def test_int8_that_was_not_quantized(self) -> None:
        with pytest.raises(RequestError, match="has no QuantizeLinear nodes; quantize it first"):
            build_engine(dense(), BuildOptions(precision="int8"), trt=FakeTensorRT())


class TestSilentFailures:
    def test_no_plan(self) -> None:
        trt = FakeTensorRT()
        trt.plan, trt.said = None, ["Error Code 2: no memory for tactic 7"]
        with pytest.raises(EngineBuildError, match=r"built no engine. It said: .*no memory for tactic 7"):
            build_engine(dense(), BuildOptions(), trt=trt)

    def test_a_profile_that_was_refused(self) -> None:
        trt = FakeTensorRT()
        trt.profile_index = -1
        with pytest.raises(EngineBuildError, match=r"the profile of batches \(1, 64, 64\) was refused"):
            build_engine(dense(), BuildOptions(), trt=trt)

    def test_an_input_that_is_not_there(self) -> None:
        with pytest.raises(EngineBuildError, match="the graph has no input 'latents', but z"):
            build_engine(dense(), BuildOptions(), trt=FakeTensorRT(inputs=("z",)))

    def test_a_parser_that_refuses(self) -> None:
        trt = FakeTensorRT()
        trt.parses = False
        with pytest.raises(EngineBuildError, match="refused the graph: node_9: no such operator"):
            build_engine(dense(), BuildOptions(), trt=trt)

    def test_an_engine_that_does_not_open(self) -> None:
        trt = FakeTensorRT()
        trt.opens, trt.said = False, ["version tag does not match"]
        with pytest.raises(EngineBuildError, match=r"cannot open the engine .* version tag does not match"):
            build_engine(dense(), BuildOptions(), trt=trt, gpu=GPU)

    def test_a_hardware_level_that_is_not_taken(self) -> None:
        trt = FakeTensorRT()
        trt.takes_hardware = False
        with pytest.raises(EngineBuildError, match=r"did not take hardware compatibility ampere\+"):
            build_engine(dense(), BuildOptions(hardware_compatibility="ampere+"), trt=trt)

    def test_a_timing_cache_of_another_machine(self, tmp_path: Path) -> None:
        trt = FakeTensorRT()
        cache = tmp_path / "timing-tensorrt-10.13.3-Fake-GPU-sm9-0.cache"
        cache.write_bytes(b"damaged")
        trt.takes_cache = False
        built = build_engine(dense(), BuildOptions(), trt=trt, gpu=GPU, timing_cache=tmp_path)
        assert any(f"{cache.name} does not belong to this machine" in message for message in built.messages)
        assert [call for call in trt.calls if call[0] == "cache"] == [("cache", b"damaged"), ("cache", b"")]
        assert cache.read_bytes() == b"timings"


class TestSettings:
    def test_precision_is_strongly_typed_by_name(self) -> None:
        trt = FakeTensorRT()
        build_engine(dense(), BuildOptions(), trt=trt)
        assert ("flags", 1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) in trt.calls
        assert ("clear", trt.BuilderFlag.TF32) in trt.calls

    def test_tf32_is_asked_for(self) -> None:
        trt = FakeTensorRT()
        build_engine(dense(), BuildOptions(precision="tf32"), trt=trt)
        assert ("set", trt.BuilderFlag.TF32) in trt.calls

    def test_profiles_and_the_workspace(self) -> None:
        trt = FakeTensorRT(inputs=("latents", "labels"))
        options = BuildOptions(min_batch=2, opt_batch=8, max_batch=32, workspace_bytes=1 << 20, optimization_level=4)
        build_engine(dense(), options, trt=trt)
        assert ("shape", "latents", (2, 8), (8, 8), (32, 8)) in trt.calls
        assert ("pool", trt.MemoryPoolType.WORKSPACE, 1 << 20) in trt.calls

    def test_rtx_has_no_use_for_a_timing_cache(self, tmp_path: Path) -> None:
        trt = FakeTensorRT("tensorrt_rtx")
        build_engine(dense(), BuildOptions(), trt=trt, timing_cache=tmp_path)
        assert not [call for call in trt.calls if call[0] == "cache"]
        assert not list(tmp_path.iterdir())

    def test_what_the_inspector_found_is_recorded(self) -> None:
        assert build_engine(dense(), BuildOptions(), trt=FakeTensorRT(), gpu=GPU).record.inspected == "Float, Half"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"precision": "fp4"}, "precision 'fp4': known are fp32, tf32"),
            ({"min_batch": 8, "opt_batch": 4}, "batches 8, 4, 64: they must be min ≤ opt ≤ max"),
            ({"opt_batch": 128}, "batches 1, 128, 64"),
            ({"min_batch": 0}, "batches 0, 64, 64"),
            ({"optimization_level": 6}, "optimization level 6: it must be 0 to 5"),
            ({"hardware_compatibility": "all"}, r"hardware compatibility 'all': known are none, ampere\+, same-cc"),
        ],
    )
    def test_options_are_checked(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(RequestError, match=message):
            BuildOptions(**options)

    def test_bindings_that_are_not_there(self) -> None:
        with pytest.raises(RequestError, match="target 'cudnn': known are tensorrt, tensorrt-rtx"):
            load_tensorrt("cudnn")
        if find_spec("tensorrt") is None:
            with pytest.raises(BackendUnavailable, match=r"pip install 'gen-engine\[tensorrt\]'"):
                load_tensorrt("tensorrt")


class TestStaleness:
    def record(self, **changes: Any) -> EngineRecord:
        built = build_engine(dense(), BuildOptions(), trt=FakeTensorRT(), gpu=GPU)
        return dataclasses.replace(built.record, **changes)

    def reasons(self, record: EngineRecord, trt: Any = None, gpu: Gpu | None = GPU, model: bytes = b"") -> list[str]:
        return stale_reasons(record, onnx_sha256=sha256_bytes(model or dense()), trt=trt or FakeTensorRT(), gpu=gpu)

    def test_valid_where_it_was_built(self) -> None:
        assert self.reasons(self.record()) == []

    def test_another_graph_version_or_gpu(self) -> None:
        newer = FakeTensorRT()
        newer.__version__ = "11.4.0"
        assert "from another graph" in self.reasons(self.record(), model=b"other")[0]
        assert "built by tensorrt 10.13.3, and this is tensorrt 11.4.0" in self.reasons(self.record(), trt=newer)[0]
        assert (
            "built for Fake GPU (9.0, compatibility none), and this is Other GPU (8.9)"
            in self.reasons(self.record(), gpu=OTHER)[0]
        )

    @pytest.mark.parametrize(("level", "fits"), [("ampere+", True), ("same-cc", False), ("none", False)])
    def test_engines_that_travel(self, level: str, fits: bool) -> None:
        options = self.record().options | {"hardware_compatibility": level}
        assert (self.reasons(self.record(options=options), gpu=OTHER) == []) is fits

    def test_it_is_built_once(self, tmp_path: Path) -> None:
        notes: list[str] = []
        trt = FakeTensorRT()
        for _ in range(2):
            read_or_build(tmp_path, dense(), BuildOptions(), trt=trt, gpu=GPU, note=notes.append)
        assert len([call for call in trt.calls if call[0] == "build"]) == 1
        assert notes == []

    @pytest.mark.parametrize(
        ("harm", "reason"),
        [
            (lambda d: (d / PLAN).write_bytes(b"other"), "its plan is damaged"),
            (lambda d: (d / RECORD).write_bytes(b"{"), "its record cannot be read"),
            (lambda d: (d / RECORD).write_text(json.dumps({"schema": 1})), "its record cannot be read"),
        ],
    )
    def test_a_harmed_one_is_built_again(self, tmp_path: Path, harm: Any, reason: str) -> None:
        notes: list[str] = []
        read_or_build(tmp_path, dense(), BuildOptions(), trt=FakeTensorRT(), note=notes.append)
        harm(tmp_path)
        built = read_or_build(tmp_path, dense(), BuildOptions(), trt=FakeTensorRT(), note=notes.append)
        assert built.plan == b"plan"
        assert len(notes) == 1
        assert reason in notes[0]

    def test_other_options_or_another_gpu_build_again(self, tmp_path: Path) -> None:
        notes: list[str] = []
        for options, gpu in (
            (BuildOptions(), GPU),
            (BuildOptions(max_batch=128), GPU),
            (BuildOptions(max_batch=128), OTHER),
        ):
            read_or_build(tmp_path, dense(), options, trt=FakeTensorRT(), gpu=gpu, note=notes.append)
        assert [("other options" in notes[0]), ("built for Fake GPU" in notes[1])] == [True, True]
