"""Engines: built by a stand-in that fails where TensorRT fails silently, kept with a record, built again when stale."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import FakeTensorRT
from graphs import graph
from onnx import helper

from gen_engine.engine.backends import import_runtime, tensorrt_engine, tensorrt_log
from gen_engine.engine.backends.cuda import Gpu
from gen_engine.engine.backends.tensorrt_engine import (
    PLAN,
    RECORD,
    BuildOptions,
    EngineRecord,
    build_engine,
    read_or_build,
    stale_reasons,
)
from gen_engine.engine.backends.tensorrt_log import logger_of
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import BackendUnavailable, EngineBuildError, RequestError

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
GPU = Gpu(name="Fake GPU", compute_capability="9.0", driver="580.1")
OTHER = Gpu(name="Other GPU", compute_capability="8.9", driver="580.1")


def dense() -> bytes:
    nodes = [helper.make_node("Gemm", ["latents", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["pixels"])]
    return graph(nodes, {"w": np.eye(8, dtype=np.float32)}, (8,), name="latents", output="pixels")


@pytest.fixture(autouse=True)
def no_logger_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: log for name, log in tensorrt_log._LOGGERS.items() if name == "tensorrt_rtx"}
    monkeypatch.setattr(tensorrt_log, "_LOGGERS", kept)  # the real one is the process's, as it has to be


def test_a_gpu_that_the_library_does_not_serve_is_no_fault_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "IRuntime: The engine cannot run on this GPU. TensorRT-RTX does not support this compute capability, so …"
    monkeypatch.setattr(tensorrt_engine, "with_log", lambda what, log: f"{what}. Its log: {told}")
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: None)
    trt: Any = SimpleNamespace(__name__="tensorrt_rtx", __version__="1.7", Runtime=lambda sink: runtime)
    here = Gpu(name="H100", compute_capability="9.0", driver="13.0")
    with pytest.raises(BackendUnavailable, match=r"just built on H100.* or --target onnxruntime --device cuda"):
        tensorrt_engine._inspect(trt, b"plan", SimpleNamespace(sink=None), here)  # type: ignore[arg-type]


@needs_rtx
class TestRealLibrary:
    def test_an_engine_does_not_open_without_a_gpu_and_we_say_so(self) -> None:
        trt = import_runtime("tensorrt-rtx")
        built = build_engine(dense(), BuildOptions(), trt=trt)
        if trt.Runtime(logger_of(trt).sink).deserialize_cuda_engine(built.plan) is not None:
            pytest.skip("there is a GPU here")
        with pytest.raises(EngineBuildError, match=r"cannot open the engine that it just built on Fake GPU"):
            build_engine(dense(), BuildOptions(), trt=trt, gpu=GPU)

    def test_one_logger_hears_every_build(self) -> None:
        trt = import_runtime("tensorrt-rtx")
        assert logger_of(trt) is logger_of(trt)


class TestSilentFailures:
    def test_no_plan(self) -> None:
        trt = FakeTensorRT()
        trt.plan, trt.said = None, ["Error Code 2: no memory for tactic 7"]
        with pytest.raises(EngineBuildError, match=r"built no engine. Its log: .*no memory for tactic 7"):
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
        if find_spec("tensorrt") is None:
            with pytest.raises(BackendUnavailable, match=r"pip install 'gen-engine\[tensorrt\]'"):
                import_runtime("tensorrt")


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
            read_or_build(tmp_path, dense(), BuildOptions(), trt=trt, gpu=GPU, on_message=notes.append)
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
        read_or_build(tmp_path, dense(), BuildOptions(), trt=FakeTensorRT(), on_message=notes.append)
        harm(tmp_path)
        built = read_or_build(tmp_path, dense(), BuildOptions(), trt=FakeTensorRT(), on_message=notes.append)
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
            read_or_build(tmp_path, dense(), options, trt=FakeTensorRT(), gpu=gpu, on_message=notes.append)
        assert [("other options" in notes[0]), ("built for Fake GPU" in notes[1])] == [True, True]


@pytest.mark.parametrize("name", ["gpu", "options", "tensors", "version", "inspected", "onnx_sha256", "schema"])
@pytest.mark.parametrize("value", [None, 3, [], {}, "x\n", {"name": 1}, {"min_batch": "many"}, True])
def test_a_record_of_other_types_is_a_reason_and_no_traceback(name: str, value: object) -> None:
    """A bundle's digest may be right, and the record in it nonsense."""
    options = {name: getattr(BuildOptions(), name) for name in BuildOptions.__dataclass_fields__}
    record = EngineRecord(
        onnx_sha256="0" * 64,
        plan_sha256=sha256_bytes(b"plan"),
        flavour="tensorrt",
        version="10",
        gpu={"name": "GPU", "compute_capability": "9.0", "driver": "13.0"},
        options=options,
        tensors={},
        inspected="Half",
    )
    document = json.loads(record.to_json())
    found, reasons = tensorrt_engine._parse_record(b"plan", json.dumps(document).encode())
    assert found is not None, reasons
    assert found.record == record
    found, reasons = tensorrt_engine._parse_record(b"plan", json.dumps(document | {name: value}).encode())
    if found is None:
        assert "its record" in reasons[0]
    else:
        assert (name, value) in [("gpu", None), ("tensors", {})]
