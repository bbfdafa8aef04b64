"""The contract of backends and their execution streams, and what is special about each runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_cuda
import numpy as np
import pytest
from backend_contract import BATCH, DIM, SHAPE, BackendContract, in_parallel, inputs, run
from later import LaterBackend
from onnx import helper
from tiny_bundle import make_tiny_bundle
from tiny_variant import graph_in

from gen_engine.engine.backends import cuda, cuda_inputs, open_backend
from gen_engine.engine.backends import onnxruntime as onnxruntime_backend
from gen_engine.engine.backends import openvino as openvino_backend
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.backends.onnxruntime import OnnxRuntimeBackend
from gen_engine.engine.backends.onnxruntime_cuda import OnnxRuntimeCudaStream, SessionGpu
from gen_engine.engine.backends.openvino import OpenVinoBackend
from gen_engine.engine.errors import BackendError, BackendUnavailable, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import Graph, canonical_graph

NO_GRAPH = Graph(onnx=b"not a graph", sha256="0" * 64, precision="fp32", origin="canonical", batch=None)
Layer = openvino_backend._Layer

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")


def open_openvino(bundle: Bundle, graph: Graph, **options: Any) -> OpenVinoBackend:
    return OpenVinoBackend(bundle, graph, **({"batch": BATCH} | options))


def capabilities() -> list[str]:
    return openvino_backend.shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("backends") / "tiny.gen", size=6, latent_dim=DIM)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("backends") / "larger.gen", size=7, latent_dim=DIM)


class TestLater(BackendContract):
    """The fake that the renderer's tests use keeps the contract too."""

    @pytest.fixture
    def backend(self, tiny: Bundle) -> Backend:
        return LaterBackend(BATCH, depth=3, shape=SHAPE)


class TestOnnxRuntime(BackendContract):
    @pytest.fixture
    def backend(self, tiny: Bundle) -> Backend:
        return OnnxRuntimeBackend(tiny, canonical_graph(tiny), device="cpu", batch=BATCH)

    def test_it_is_opened_by_its_name(self, tiny: Bundle) -> None:
        backend = open_backend("onnxruntime", tiny, canonical_graph(tiny), device="cpu", batch=2)
        assert (backend.name, backend.device, backend.precision) == ("onnxruntime", "cpu", "fp32")

    @pytest.mark.parametrize("name", ["torch", "auto", ""])
    def test_an_unknown_backend(self, tiny: Bundle, name: str) -> None:
        with pytest.raises(RequestError, match=f"unknown backend '{name}': .*choose one of onnxruntime"):
            open_backend(name, tiny, canonical_graph(tiny), device="cpu", batch=2)

    @pytest.mark.parametrize("device", ["tpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "gpu:0", ""])
    def test_an_unknown_device(self, tiny: Bundle, device: str) -> None:
        with pytest.raises(BackendUnavailable, match="onnxruntime supports cpu, cuda and cuda:N"):
            OnnxRuntimeBackend(tiny, canonical_graph(tiny), device=device, batch=2)

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_a_precision_that_the_processor_has_no_kernels_for(self, tiny: Bundle, precision: str) -> None:
        with pytest.raises(BackendUnavailable, match=f"precision '{precision}': .* use --backend openvino"):
            OnnxRuntimeBackend(tiny, graph_in(tiny, precision), batch=2)

    @pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-tensorrt"])
    def test_a_device_that_is_not_there_is_not_replaced_by_the_processor(
        self, tiny: Bundle, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
    ) -> None:
        # No machine has this many; one without CUDA says so in the same words.
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(BackendUnavailable, match=r"device 'cuda:999': .* use --device cpu"):
            open_backend(name, tiny, canonical_graph(tiny), device="cuda:999", batch=2)
        assert capfd.readouterr() == ("", "")

    def test_a_graph_that_is_none(self, tiny: Bundle) -> None:
        with pytest.raises(BackendError, match="onnxruntime refused the generator of bundle") as caught:
            OnnxRuntimeBackend(tiny, NO_GRAPH, batch=2)
        assert caught.value.__cause__ is not None

    def test_a_bundle_that_promises_another_shape(self, tiny: Bundle, larger: Bundle) -> None:
        backend = OnnxRuntimeBackend(tiny, canonical_graph(larger), batch=BATCH)
        with pytest.raises(BackendError, match=r"made uint8 \[5, 7, 7, 1\] as image where its bundle promises"):
            backend.open_stream().submit(*inputs(0))

    def test_a_failure_in_the_runtime_keeps_its_cause(self, tiny: Bundle) -> None:
        latents_BZ, _ = inputs(0)
        with pytest.raises(BackendError, match="onnxruntime failed on a batch of 5") as caught:
            OnnxRuntimeBackend(tiny, canonical_graph(tiny), batch=BATCH).open_stream().submit(
                latents_BZ, np.full(BATCH, 99)
            )
        assert caught.value.__cause__ is not None


class SessionOnTheProcessor(SessionGpu):
    """A stand-in's GPU, whose memory is the processor's: so a session on the processor can be bound to it."""

    memory = "cpu"


class BoundBackend(OnnxRuntimeBackend):
    """ONNX Runtime as it is run on a GPU, but for the GPU."""

    def open_stream(self) -> OnnxRuntimeCudaStream:
        self.gpu = getattr(self, "gpu", None) or SessionOnTheProcessor("cuda:0", 0)
        return OnnxRuntimeCudaStream(self._session, self.gpu, self._bundle, self.batch)


class TestOnnxRuntimeBound(BackendContract):
    """The execution stream of a GPU, its arrays and its latents bound, on a stand-in for CUDA."""

    @pytest.fixture
    def backend(self, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> BoundBackend:
        monkeypatch.setattr(cuda, "gpu", lambda ordinal: cuda.Gpu(name="G", compute_capability="9.0", driver="13.0"))
        monkeypatch.setattr(cuda, "cuda_core", lambda: fake_cuda)
        monkeypatch.setattr(cuda_inputs, "compile_kernel", lambda architecture: fake_cuda.ObjectCode())
        monkeypatch.setattr(fake_cuda.Stream, "eager", True)  # a session on the processor does not wait for streams
        monkeypatch.setattr(fake_cuda.Buffer, "open", 0)
        return BoundBackend(tiny, canonical_graph(tiny), batch=BATCH)

    def test_it_makes_what_an_unbound_session_makes(self, tiny: Bundle, backend: BoundBackend) -> None:
        other = OnnxRuntimeBackend(tiny, canonical_graph(tiny), batch=BATCH)
        np.testing.assert_array_equal(run(backend.open_stream(), *inputs(0)), run(other.open_stream(), *inputs(0)))

    def test_samples_drawn_on_the_gpu_are_those_of_the_host(self, backend: BoundBackend) -> None:
        stream, other = backend.open_stream(), backend.open_stream()
        for latents in (Latents(dim=DIM, seed=2), Latents(dim=DIM, seed=3, truncation=0.4)):
            for first in (0, 5, 10**9):
                labels_B = inputs(first)[1]
                stream.submit_samples(first, latents, labels_B)
                expected = run(other, latents.draw(first, first + BATCH), labels_B)
                np.testing.assert_array_equal(stream.collect()["image"], expected)

    def test_closing_gives_the_memory_back(self, backend: BoundBackend) -> None:
        stream = backend.open_stream()
        stream.submit_samples(0, Latents(dim=DIM), inputs(0)[1])
        stream.close()
        assert fake_cuda.Buffer.open == stream.depth + 1  # the pinned pixels, which go with their last view

    def test_without_classes(self, backend: BoundBackend, tmp_path: Path) -> None:
        plain = make_tiny_bundle(tmp_path / "plain.gen", conditional=False, size=6, latent_dim=DIM)
        stream = BoundBackend(plain, canonical_graph(plain), batch=BATCH).open_stream()
        stream.submit_samples(0, Latents(dim=DIM), None)
        assert stream.collect()["image"].shape == (BATCH, *SHAPE)

    def test_a_failure_in_the_runtime_keeps_its_cause(self, backend: BoundBackend) -> None:
        with pytest.raises(BackendError, match="onnxruntime failed on a batch of 5 on cuda:0: ") as caught:
            backend.open_stream().submit(inputs(0)[0], np.full(BATCH, 99))
        assert caught.value.__cause__ is not None

    def test_samples_that_are_the_same_in_every_run(self, backend: BoundBackend) -> None:
        backend.refuse_unrepeatable()

    def test_samples_that_differ_from_run_to_run_are_refused(
        self, backend: BoundBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collect, runs = OnnxRuntimeCudaStream.collect, []

        def unsteady(stream: OnnxRuntimeCudaStream) -> Any:
            runs.append(columns := collect(stream))
            next(iter(columns.values())).flat[-1] ^= len(runs) == 7
            return columns

        monkeypatch.setattr(OnnxRuntimeCudaStream, "collect", unsteady)
        with pytest.raises(BackendUnavailable, match=r"at a batch of 5 in fp32 .* from run to run"):
            backend.refuse_unrepeatable()
        assert len(runs) == 32  # so few values: often

    def test_a_bundle_that_promises_another_shape(self, backend: BoundBackend, tiny: Bundle, larger: Bundle) -> None:
        with pytest.raises(BackendError, match=r"made uint8 \[5, 7, 7, 1\] as image where its bundle promises"):
            BoundBackend(tiny, canonical_graph(larger), batch=BATCH).open_stream()


def test_a_convolution_is_never_chosen_by_timing(tiny: Bundle) -> None:
    """Nor is a transposed one, without tensor cores, by heuristics: those add in no fixed order."""
    named = helper.make_node("Conv", ["x", "w"], ["y"], name="ConvTranspose")
    asked = {}
    for op, precision in (("Conv", "fp32"), ("ConvTranspose", "fp32"), ("ConvTranspose", "fp16")):
        node = helper.make_node(op, ["x", "w"], ["y"]) if op != "Conv" else named
        model = helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString()
        graph = Graph(onnx=model, sha256="0" * 64, precision=precision, origin="canonical", batch=None)
        asked[op, precision] = onnxruntime_backend._convolutions(graph)["cudnn_conv_algo_search"]
    assert list(asked.values()) == ["HEURISTIC", "DEFAULT", "HEURISTIC"]


def test_libraries_are_loaded_without_a_word_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = []
    onnxruntime_backend._load_cuda_libraries(SimpleNamespace(preload_dlls=lambda: loaded.append(print("no cuDNN"))))
    onnxruntime_backend._load_cuda_libraries(SimpleNamespace())  # before 1.21 there was nothing to call
    assert loaded == [None]
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
@pytest.mark.parametrize("drawn", [False, True], ids=["from the host", "drawn there"])
def test_onnxruntime_on_a_gpu(tiny: Bundle, drawn: bool) -> None:
    stream = OnnxRuntimeBackend(tiny, canonical_graph(tiny), device="cuda", batch=BATCH).open_stream()
    other = OnnxRuntimeBackend(tiny, canonical_graph(tiny), batch=BATCH).open_stream()
    assert isinstance(stream, OnnxRuntimeCudaStream)
    for first in (0, 5, 10, 15):
        if drawn:
            stream.submit_samples(first, Latents(dim=DIM, seed=2), inputs(first)[1])
        else:
            stream.submit(*inputs(first))
        assert np.abs(stream.collect()["image"].astype(int) - run(other, *inputs(first))).max() <= 1


class TestTensorRt:
    """All of ONNX Runtime's TensorRT provider that a machine with no GPU can show."""

    def test_the_processor_is_no_device_of_it(self, tiny: Bundle) -> None:
        with pytest.raises(BackendUnavailable, match="device 'cpu': onnxruntime-tensorrt supports cuda and cuda:N"):
            open_backend("onnxruntime-tensorrt", tiny, canonical_graph(tiny), device="cpu", batch=2)

    def test_what_it_asks_of_the_provider(self, tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        class Session:
            def __init__(self, graph: bytes, options: Any, providers: list[Any], enable_fallback: int) -> None:
                assert not enable_fallback
                asked.extend(providers)
                assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"

            def get_providers(self) -> list[str]:
                return ["CPUExecutionProvider"]

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr("onnxruntime.InferenceSession", Session)
        monkeypatch.setattr(cuda, "gpu", lambda ordinal: cuda.Gpu(name="G", compute_capability="9.0", driver="13.0"))
        monkeypatch.setattr(cuda, "cuda_core", lambda: fake_cuda)
        graph = canonical_graph(tiny)
        with pytest.raises(BackendUnavailable, match="TensorRT provider does not load here; it needs"):
            open_backend("onnxruntime-tensorrt", tiny, graph, device="cuda:1", batch=3)
        ((name, options),) = asked
        cache = tmp_path / "gen-engine" / "onnxruntime-tensorrt" / graph.sha256[:16]
        assert cache.is_dir()
        assert (name, options["device_id"], options["trt_engine_cache_path"]) == (
            "TensorrtExecutionProvider",
            "1",
            str(cache),
        )
        assert int(options["user_compute_stream"]) in fake_cuda.STREAMS
        assert {options[f"trt_profile_{end}_shapes"] for end in ("min", "opt", "max")} == {"latents:3x8,labels:3"}

    def test_a_cache_that_cannot_be_made(self, tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(BackendUnavailable, match=r"its engine cache .* cannot be used .* set XDG_CACHE_HOME"):
            open_backend("onnxruntime-tensorrt", tiny, canonical_graph(tiny), device="cuda", batch=3)


@needs_openvino
class TestOpenVino(BackendContract):
    @pytest.fixture
    def backend(self, tiny: Bundle) -> Backend:
        return open_openvino(tiny, canonical_graph(tiny))

    def test_it_makes_what_onnxruntime_makes(self, tiny: Bundle, backend: Backend) -> None:
        other = OnnxRuntimeBackend(tiny, canonical_graph(tiny), batch=BATCH)
        ours, theirs = (run(one.open_stream(), *inputs(0)).astype(int) for one in (backend, other))
        assert np.abs(ours - theirs).max() <= 1

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_pixels_depend_neither_on_the_requests_nor_on_the_streams(self, tiny: Bundle, precision: str) -> None:
        graph = graph_in(tiny, precision)
        if precision == "bf16" and "BF16" not in capabilities():
            pytest.skip("this processor computes nothing in bf16")
        made = [
            in_parallel(open_openvino(tiny, graph, streams=requests), streams, batches=12)
            for requests, streams in [(1, 1), (2, 1), (1, 4), (2, 4), (5, 3)]
        ]
        for other in made[1:]:
            np.testing.assert_array_equal(other, made[0])

    def test_a_canonical_graph_is_computed_in_fp32(self, tiny: Bundle) -> None:
        kernels = open_openvino(tiny, canonical_graph(tiny)).kernels
        assert sum(kernels.values()) == 1
        assert all(kernel.endswith("f32") for kernel in kernels)

    def test_a_graph_in_bf16_is_computed_in_it_or_refused(self, tiny: Bundle) -> None:
        graph = graph_in(tiny, "bf16")
        if "BF16" in capabilities():
            backend = open_openvino(tiny, graph)
            assert backend.precision == "bf16"
            assert all("bf16" in kernel for kernel in backend.kernels)
            whole = run(backend.open_stream(), *inputs(0)).astype(int)
            exact = run(open_openvino(tiny, canonical_graph(tiny)).open_stream(), *inputs(0)).astype(int)
            assert 0 < np.abs(whole - exact).max() < 6
        else:
            with pytest.raises(BackendUnavailable, match="precision 'bf16'"):
                open_openvino(tiny, graph)

    def test_a_layer_that_runs_in_fp32_is_named(self, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        """As the runtime does with a ConvTranspose that it has no bf16 kernel for, while its property says bf16."""
        layers = [Layer("dense", "brgemm_avx512_amx_bf16", "bf16"), Layer("up", "jit_avx512_f32", "f32")]
        monkeypatch.setattr(openvino_backend, "_matrix_layers", lambda compiled: layers)
        with pytest.raises(
            BackendUnavailable, match=r"precision 'bf16': .* all of this graph .*: up \(jit_avx512_f32, f32\)\. Use"
        ):
            open_openvino(tiny, graph_in(tiny, "bf16"))

    def test_a_quantised_graph_may_keep_layers_but_not_all(self) -> None:
        low, high = Layer("a", "brgconv_avx512_i8", "u8"), Layer("b", "brgconv_avx512_f32", "f32")
        openvino_backend._refuse_fallback("int8", [low, high])
        with pytest.raises(BackendUnavailable, match="precision 'int8'"):
            openvino_backend._refuse_fallback("int8", [high])

    def test_fp16_is_not_replaced_by_fp32(self, tiny: Bundle) -> None:
        if "FP16" in capabilities():
            pytest.skip("this processor computes in fp16")
        with pytest.raises(BackendUnavailable, match=r"precision 'fp16': .*f32\)"):
            open_openvino(tiny, graph_in(tiny, "fp16"))

    @pytest.mark.parametrize("device", ["cuda", "gpu", "CPU", ""])
    def test_another_device(self, tiny: Bundle, device: str) -> None:
        with pytest.raises(BackendUnavailable, match=f"device '{device}': openvino runs on the CPU here"):
            open_openvino(tiny, canonical_graph(tiny), device=device)

    def test_a_graph_that_is_none(self, tiny: Bundle) -> None:
        with pytest.raises(BackendError, match="openvino refused the generator of bundle") as caught:
            open_openvino(tiny, NO_GRAPH)
        assert caught.value.__cause__ is not None

    def test_a_bundle_that_promises_another_shape(self, tiny: Bundle, larger: Bundle) -> None:
        with pytest.raises(BackendError, match=r"made uint8 \[5, 7, 7, 1\] as image where its bundle promises"):
            open_openvino(tiny, canonical_graph(larger))

    def test_a_failure_in_the_runtime_keeps_its_cause(self, tiny: Bundle) -> None:
        latents_BZ, labels_B = inputs(0)
        with pytest.raises(BackendError, match="openvino failed on a batch of 4") as caught:
            open_openvino(tiny, canonical_graph(tiny)).open_stream().submit(latents_BZ[:4], labels_B)
        assert caught.value.__cause__ is not None

    def test_a_failure_while_a_batch_runs_keeps_its_cause(self, tiny: Bundle) -> None:
        class Broken:
            def wait(self) -> None:
                raise RuntimeError("out of memory")

        stream = open_openvino(tiny, canonical_graph(tiny)).open_stream()
        stream._in_flight.append((Broken(), ()))
        with pytest.raises(BackendError, match="openvino failed while it ran a batch: out of memory") as caught:
            stream.collect()
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_without_classes(self, tmp_path: Path) -> None:
        plain = make_tiny_bundle(tmp_path / "plain.gen", conditional=False, size=6, channels=3)
        stream = open_openvino(plain, canonical_graph(plain)).open_stream()
        stream.submit(inputs(0)[0], None)
        assert stream.collect()["image"].shape == (BATCH, 6, 6, 3)

    def test_opening_it_reports_to_nobody(self, tiny: Bundle, tmp_path: Path) -> None:
        """By itself, importing openvino writes into the home directory and starts a thread that calls a web service."""
        program = (
            "import sys, threading\n"
            "from pathlib import Path\n"
            "from gen_engine.engine.backends import import_runtime\n"
            "assert 'openvino' not in sys.modules\n"
            "import_runtime('openvino').Core().read_model(sys.argv[1])\n"
            "print(threading.active_count(), [name for name in sys.modules if name.startswith('openvino_telemetry')])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, tiny.path / "generator.onnx"],
            env=os.environ | {"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "1 []\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.usefixtures("default_sigint")
    def test_ctrl_c_after_backends_came_and_went_is_an_exception(self, tiny: Bundle) -> None:
        """With a Core for each of them it was a segmentation fault: see ``shared_core``."""
        program = (
            "import os, signal, sys, time; from pathlib import Path\n"
            "from gen_engine.engine.backends.openvino import OpenVinoBackend\n"
            "from gen_engine.engine.identity.bundle import read_bundle\n"
            "from gen_engine.engine.identity.variants import canonical_graph\n"
            "bundle = read_bundle(Path(sys.argv[1]))\n"
            "one = OpenVinoBackend(bundle, canonical_graph(bundle), batch=2)\n"
            "for _ in range(20):\n"
            "    one = OpenVinoBackend(bundle, canonical_graph(bundle), batch=2)\n"
            "    del one; one = OpenVinoBackend(bundle, canonical_graph(bundle), batch=2)\n"
            "del one; junk = [bytearray(b'x' * size) for size in range(1000, 40000, 100)]\n"
            "try: os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
            "except KeyboardInterrupt: print('interrupted')"
        )
        done = subprocess.run([sys.executable, "-c", program, tiny.path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr

    def test_a_library_that_is_not_there(self, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openvino", None)
        with pytest.raises(BackendUnavailable, match=r"openvino cannot be imported .* 'gen-engine\[openvino\]'"):
            open_openvino(tiny, canonical_graph(tiny))
