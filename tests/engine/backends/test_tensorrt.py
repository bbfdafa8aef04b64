"""The TensorRT runtime: the backends' contract on a stand-in for a GPU, and every call that fails in silence."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fake_cuda
import numpy as np
import pytest
from backend_contract import BATCH, DIM, SHAPE, BackendContract, inputs, run
from fake_tensorrt import FakeTensorRT, pixels_of
from jobs import run_job, tree
from tiny_bundle import make_tiny_bundle
from tiny_variant import make_variant

from gen_engine.engine.backends import cuda, cuda_inputs, open_backend, tensorrt_log
from gen_engine.engine.backends.choose import choose
from gen_engine.engine.backends.contract import DrawingStream
from gen_engine.engine.backends.cuda import Gpu
from gen_engine.engine.backends.tensorrt import TensorRtBackend, TensorRtStream
from gen_engine.engine.backends.tensorrt_engine import PLAN, RECORD, BuildOptions, build_engine
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import BackendError, BackendUnavailable
from gen_engine.engine.identity.bundle import GENERATOR, Bundle, read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.identity.variants import Graph, Variant, add_variant, canonical_graph, find_graph, read_variants
from gen_engine.engine.render import opening

GPU = Gpu(name="Fake GPU", compute_capability="9.0", driver="13.0")
OTHER = Gpu(name="Other GPU", compute_capability="8.9", driver="13.0")
TENSORS = ("latents", "labels")


def with_engine(path: Path, trt: FakeTensorRT, *, gpu: Gpu = GPU, conditional: bool = True, most: int = 64) -> Bundle:
    """A bundle with a variant for TensorRT as ``compile`` makes it, its engine built by the stand-in."""
    bundle = make_tiny_bundle(path, size=6, latent_dim=DIM, conditional=conditional)
    graph = bundle.load(GENERATOR)
    built = build_engine(graph, BuildOptions(opt_batch=min(8, most), max_batch=most), trt=trt, gpu=gpu)
    variant = make_variant(bundle, "tensorrt", "fp32", device="cuda", speedup=None, speedup_at_1=None, batch=BATCH)
    return add_variant(bundle, variant, {GENERATOR: graph, PLAN: built.plan, RECORD: built.record.to_json()})


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    """TensorRT, cuda-core, the driver and NVRTC, all of them stand-ins."""
    library = FakeTensorRT(inputs=TENSORS, sample=SHAPE)
    monkeypatch.setattr(tensorrt_log, "_LOGGERS", {})
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    monkeypatch.setattr(cuda, "gpu", lambda ordinal: GPU)
    monkeypatch.setattr(cuda, "cuda_core", lambda: fake_cuda)
    monkeypatch.setattr(cuda_inputs, "compile_kernel", lambda architecture: fake_cuda.ObjectCode())
    monkeypatch.setattr(fake_cuda.Buffer, "open", 0)
    monkeypatch.setattr(opening, "open_reference", lambda bundle: Reference())
    return library


class Reference:
    """The canonical graph at one sample per call, as the stand-in for an engine would compute it."""

    name, batch, depth = "reference", 1, 1

    def open_stream(self) -> Reference:
        return self

    def submit(self, latents_BZ: Any, labels_B: Any) -> None:
        self._made = pixels_of(latents_BZ, labels_B, SHAPE)

    def collect(self) -> Any:
        return {"image": self._made}

    def close(self) -> None:
        pass


@pytest.fixture
def engined(tmp_path: Path, trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return with_engine(tmp_path / "tiny.gen", trt)


def graph_of(bundle: Bundle) -> Graph:
    name, graph = choose(bundle, Runtime(backend="tensorrt", device="cuda"), lambda _: None)
    assert name == "tensorrt"
    return graph


def opened(bundle: Bundle, **options: Any) -> TensorRtBackend:
    return TensorRtBackend(bundle, graph_of(bundle), **({"device": "cuda:0", "batch": BATCH} | options))


@pytest.mark.parametrize("eager", [False, True], ids=["late", "eager"])
class TestContract(BackendContract):
    @pytest.fixture
    def backend(self, engined: Bundle, eager: bool, monkeypatch: pytest.MonkeyPatch) -> TensorRtBackend:
        monkeypatch.setattr(fake_cuda.Stream, "eager", eager)
        return opened(engined)

    def test_it_is_what_the_engine_makes(self, backend: TensorRtBackend) -> None:
        latents_BZ, labels_B = inputs(0)
        np.testing.assert_array_equal(
            run(backend.open_stream(), latents_BZ, labels_B), pixels_of(latents_BZ, labels_B, SHAPE)
        )

    def test_samples_drawn_on_the_gpu_are_those_of_the_host(self, backend: TensorRtBackend) -> None:
        stream, other = backend.open_stream(), backend.open_stream()
        assert isinstance(stream, DrawingStream)
        latents = Latents(dim=DIM, seed=2)
        for first in (0, 10, 5, 10**9):
            labels_B = inputs(first)[1]
            stream.submit_samples(first, latents, labels_B)
            np.testing.assert_array_equal(
                stream.collect()["image"], run(other, latents.draw(first, first + BATCH), labels_B), str(first)
            )

    def test_other_latents_on_the_same_stream(self, backend: TensorRtBackend) -> None:
        stream = backend.open_stream()
        for latents in (Latents(dim=DIM, seed=2), Latents(dim=DIM, seed=3, truncation=0.5)):
            for first in range(6):  # each slot once, and some again
                stream.submit_samples(first, latents, inputs(first)[1])
                expected = pixels_of(latents.draw(first, first + BATCH), inputs(first)[1], SHAPE)
                np.testing.assert_array_equal(stream.collect()["image"], expected)

    def test_three_batches_are_in_flight(self, backend: TensorRtBackend) -> None:
        stream = backend.open_stream()
        latents = Latents(dim=DIM, seed=2)
        for i in range(3):
            stream.submit_samples(BATCH * i, latents, inputs(BATCH * i)[1])
        with pytest.raises(AssertionError, match="more batches in flight"):
            stream.submit_samples(99, latents, inputs(0)[1])
        for i in range(9):
            expected = pixels_of(*inputs(BATCH * i), SHAPE)
            np.testing.assert_array_equal(stream.collect()["image"], expected)
            stream.submit_samples(BATCH * (i + 3), latents, inputs(BATCH * (i + 3))[1])

    def test_a_batch_is_one_launch_of_a_graph(
        self, backend: TensorRtBackend, trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream, latents = backend.open_stream(), Latents(dim=DIM, seed=2)
        assert trt.contexts == 4
        monkeypatch.setattr(fake_cuda.Graph, "launches", 0)
        began = trt.starts
        for i in range(10):
            stream.submit_samples(i, latents, inputs(i)[1])
            stream.collect()
        assert fake_cuda.Graph.launches == 10
        assert began - trt.starts == 2 * 4  # a slot's engine is enqueued to warm up and to be captured, and never again

    def test_what_was_collected_outlives_the_stream(self, backend: TensorRtBackend) -> None:
        stream = backend.open_stream()
        stream.submit(*inputs(0))
        pixels = stream.collect()["image"]
        stream.close()
        np.testing.assert_array_equal(pixels, pixels_of(*inputs(0), SHAPE))

    def test_an_engine_without_scratch_memory(self, backend: TensorRtBackend, trt: FakeTensorRT) -> None:
        trt.scratch = 0
        np.testing.assert_array_equal(run(backend.open_stream(), *inputs(0)), pixels_of(*inputs(0), SHAPE))

    def test_closing_gives_the_memory_back(self, backend: TensorRtBackend) -> None:
        stream = backend.open_stream()
        stream.submit_samples(0, Latents(dim=DIM, seed=2), inputs(0)[1])
        stream.close()
        assert fake_cuda.Buffer.open == 4  # the pinned pixels, which go with their last view


def test_without_classes(tmp_path: Path, trt: FakeTensorRT) -> None:
    trt._inputs = ("latents",)
    stream = opened(with_engine(tmp_path / "plain.gen", trt, conditional=False)).open_stream()
    latents = Latents(dim=DIM, seed=1)
    stream.submit_samples(3, latents, None)
    np.testing.assert_array_equal(stream.collect()["image"], pixels_of(latents.draw(3, 3 + BATCH), None, SHAPE))


class TestSilentFailures:
    """Each of them with what TensorRT said to its logger."""

    @pytest.fixture(autouse=True)
    def _it_says_something(self, engined: Bundle, trt: FakeTensorRT) -> None:
        trt.said = ["Error Code 1: the reason"]

    def test_an_engine_that_does_not_open(self, engined: Bundle, trt: FakeTensorRT) -> None:
        trt.opens = False
        with pytest.raises(BackendError, match=r"did not open its engine on Fake GPU\. Its log: .*the reason"):
            opened(engined)

    def test_no_execution_context(self, engined: Bundle, trt: FakeTensorRT) -> None:
        trt.makes_context = False
        with pytest.raises(BackendError, match=r"no execution context for a batch of 5.*the reason.*smaller --batch"):
            opened(engined).open_stream()

    def test_a_shape_that_is_refused(self, engined: Bundle, trt: FakeTensorRT) -> None:
        trt.takes_shape = False
        with pytest.raises(BackendError, match=r"refused the shape \[5, 8\] of latents.*the reason"):
            opened(engined).open_stream()

    def test_an_address_that_is_refused(self, engined: Bundle, trt: FakeTensorRT) -> None:
        trt.takes_address = False
        with pytest.raises(BackendError, match=r"refused the address of latents.*the reason"):
            opened(engined).open_stream()

    @pytest.mark.parametrize("starts", [0, 1], ids=["warming up", "captured"])
    def test_an_engine_that_does_not_start(self, engined: Bundle, trt: FakeTensorRT, starts: int) -> None:
        stream = opened(engined).open_stream()
        trt.starts = starts
        with pytest.raises(BackendError, match=r"did not start the engine.*the reason"):
            stream.submit(*inputs(0))
        stream.close()

    def test_an_output_of_another_shape(self, engined: Bundle, trt: FakeTensorRT) -> None:
        trt.made_shape = (5, 7, 7, 1)
        with pytest.raises(BackendError, match=r"made uint8 \[5, 7, 7, 1\] as image where its bundle promises"):
            opened(engined).open_stream()

    def test_an_engine_of_another_generator(self, engined: Bundle, trt: FakeTensorRT) -> None:
        trt._inputs = ("latents",)
        with pytest.raises(BackendError, match=r"the engine has latents .* has labels, latents, pixels; compile"):
            opened(engined)

    def test_an_error_of_cuda_keeps_its_cause(self, engined: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = opened(engined).open_stream()

        def lost(*_: Any, **__: Any) -> None:
            raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")

        monkeypatch.setattr(fake_cuda.Graph, "launch", lost)
        with pytest.raises(BackendError, match=r"tensorrt 10.13.3 failed on a batch of 5 on cuda:0: CUDA") as caught:
            stream.submit(*inputs(0))
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_memory_that_runs_out_names_what_needs_less(self, engined: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")

        backend = opened(engined)
        monkeypatch.setattr(fake_cuda.DeviceMemoryResource, "allocate", full)
        with pytest.raises(
            BackendError, match=r"prepare an execution stream on cuda:0: .*; use fewer --workers, or a smaller"
        ):
            backend.open_stream()


class TestEngines:
    def test_the_bundles_engine_runs_where_it_is_valid(self, engined: Bundle, trt: FakeTensorRT) -> None:
        built = len([call for call in trt.calls if call[0] == "build"])
        notes: list[str] = []
        backend = opened(engined, on_message=notes.append)
        assert (backend.engine, notes) == (sha256_bytes(b"plan"), [])
        assert len([call for call in trt.calls if call[0] == "build"]) == built

    @pytest.mark.parametrize(
        ("harm", "reason"),
        [
            (
                lambda trt, patch: setattr(trt, "__version__", "11.4.0"),
                "by tensorrt 10.13.3, and this is tensorrt 11",
            ),
            (lambda trt, patch: patch.setattr(cuda, "gpu", lambda _: OTHER), "built for Fake GPU .* this is Other GPU"),
        ],
        ids=["version", "gpu"],
    )
    def test_one_for_another_machine_is_built_again_once_and_said(
        self,
        engined: Bundle,
        trt: FakeTensorRT,
        monkeypatch: pytest.MonkeyPatch,
        harm: Callable[..., None],
        reason: str,
    ) -> None:
        harm(trt, monkeypatch)
        trt.plan = b"another"
        notes: list[str] = []
        with pytest.raises(BackendUnavailable, match=rf"{reason}.*leave --no-build out to build one here"):
            opened(engined, build=False)
        for _ in range(2):
            backend = opened(engined, on_message=notes.append)
            assert backend.engine == sha256_bytes(b"another")
        assert len(notes) == 1
        assert "building one from its graph, which takes minutes" in notes[0]
        assert opened(engined, build=False).engine == backend.engine
        assert ("shape", "latents", (BATCH, 8), (BATCH, 8), (BATCH, 8)) in trt.calls

    def test_a_batch_outside_of_its_profile(self, tmp_path: Path, trt: FakeTensorRT, engined: Bundle) -> None:
        bundle = with_engine(tmp_path / "small.gen", trt, most=4)
        with pytest.raises(BackendUnavailable, match="it runs batches of 1 to 4, not 5"):
            opened(bundle, build=False)

    def test_a_damaged_plan_in_the_cache_is_not_opened(self, engined: Bundle, trt: FakeTensorRT) -> None:
        trt.__version__ = "11.4.0"
        opened(engined)
        (plan,) = Path(engined.path.parent, "cache").rglob(PLAN)
        plan.write_bytes(b"code of somebody else's")
        with pytest.raises(BackendUnavailable):
            opened(engined, build=False)
        opened(engined)
        assert plan.read_bytes() == b"plan"

    def test_a_damaged_plan_in_the_bundle_is_not_opened(self, engined: Bundle) -> None:
        (engined.path / "variants/tensorrt-fp32" / PLAN).write_bytes(b"evil")
        with pytest.raises(Exception, match=r"engine.plan"):
            opened(read_bundle(engined.path))

    def test_a_record_that_does_not_match_its_plan(self, engined: Bundle, trt: FakeTensorRT) -> None:
        folder = "variants/tensorrt-fp32"
        record = json.loads(engined.load(f"{folder}/{RECORD}")) | {"plan_sha256": "0" * 64}
        files = {GENERATOR: engined.load(GENERATOR), PLAN: b"plan", RECORD: json.dumps(record).encode()}
        variant = make_variant(engined, "tensorrt", "fp32", device="cuda", speedup=None, speedup_at_1=None)
        with pytest.raises(BackendUnavailable, match="its plan is damaged"):
            opened(add_variant(engined, variant, files), build=False)

    def test_a_graph_that_was_not_made_for_it(self, engined: Bundle, trt: FakeTensorRT) -> None:
        with pytest.raises(BackendUnavailable, match=r"make it with 'gen-engine compile .* --target tensorrt'"):
            TensorRtBackend(engined, canonical_graph(engined), device="cuda", batch=BATCH)


class TestWhatIsMissing:
    def test_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        bundle = make_tiny_bundle(tmp_path / "tiny.gen")
        with pytest.raises(BackendUnavailable, match=r"tensorrt cannot be imported .* 'gen-engine\[tensorrt\]'"):
            open_backend("tensorrt", bundle, canonical_graph(bundle), device="cuda", batch=2)

    def test_the_driver(self, engined: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT())
        monkeypatch.setattr(cuda, "DRIVER", "libcuda-that-is-not-there.so.1")
        with pytest.raises(BackendUnavailable, match="no NVIDIA driver here"):
            opened(engined)

    def test_the_processor_is_no_device_of_it(self, engined: Bundle) -> None:
        with pytest.raises(BackendUnavailable, match="device 'cpu': tensorrt supports cuda and cuda:N"):
            opened(engined, device="cpu")

    @pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
    def test_tensorrt_rtx_is_loaded_and_says_what_it_lacks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cuda, "DRIVER", "libcuda-that-is-not-there.so.1")
        bundle = make_tiny_bundle(tmp_path / "tiny.gen")
        with pytest.raises(BackendUnavailable, match="no NVIDIA driver here"):
            open_backend("tensorrt-rtx", bundle, canonical_graph(bundle), device="cuda", batch=2)


class TestJobs:
    def test_a_job_is_the_same_with_any_number_of_workers_and_its_plan_names_the_engine(
        self, engined: Bundle, tmp_path: Path
    ) -> None:
        request = {"count": 100, "shard_size": 12, "backend": "tensorrt", "device": "cuda", "batch": 8}
        one = run_job(engined, tmp_path / "one", **request)
        run_job(engined, tmp_path / "three", workers=3, **request)
        assert tree(tmp_path / "one") == tree(tmp_path / "three")
        compute = one.plan.to_json()["compute"]
        assert (compute["device"], compute["engine"]) == ("cuda", sha256_bytes(b"plan"))
        assert compute["graph"] == engined.files["variants/tensorrt-fp32/generator.onnx"].sha256
        assert find_graph(engined, compute["graph"]) is not None

    def test_another_gpu_of_the_same_model_goes_on(self, engined: Bundle, tmp_path: Path) -> None:
        request = {"count": 10, "backend": "tensorrt", "batch": 8}
        run_job(engined, tmp_path / "out", device="cuda:0", **request)
        assert run_job(engined, tmp_path / "out", device="cuda:1", **request).rendered == 0

    def test_auto_does_not_take_what_was_not_measured(self, engined: Bundle) -> None:
        notes: list[str] = []
        name, graph = choose(engined, Runtime(device="cuda"), notes.append)
        assert (name, graph.origin) == ("onnxruntime", "canonical")
        (note,) = notes
        assert note.startswith("variant tensorrt-fp32 is skipped: its speed was not measured; name it with --backend")

    def test_auto_takes_one_that_was_measured_to_be_faster(self, engined: Bundle, tmp_path: Path) -> None:
        variant = dataclasses.replace(read(engined), speedup=3.0)
        files = {name: engined.load(f"variants/tensorrt-fp32/{name}") for name in (GENERATOR, PLAN, RECORD)}
        bundle = add_variant(engined, variant, files)
        for device, expected in (("cuda:1", "tensorrt"), ("cpu", "onnxruntime")):
            found = choose(bundle, Runtime(device=device), lambda _: None)
            assert found[0] == expected


def read(bundle: Bundle) -> Variant:
    (variant,) = read_variants(bundle)
    return variant


class TestStandIn:
    """The stand-in has nothing that cuda-core has not."""

    @pytest.fixture
    def core(self) -> Any:
        if find_spec("cuda") is None:
            pytest.skip("cuda-core is not installed")
        return pytest.importorskip("cuda.core")

    def classes(self, core: Any) -> Iterator[tuple[type, type]]:
        for name in ("Device", "Stream", "Event", "Buffer", "DeviceMemoryResource", "LegacyPinnedMemoryResource"):
            yield getattr(fake_cuda, name), getattr(core, name)
        for name in ("GraphBuilder", "Graph"):
            yield getattr(fake_cuda, name), getattr(core.graph, name)
        yield fake_cuda.ObjectCode, core.ObjectCode

    def test_every_name_of_it_is_one_of_cuda_core(self, core: Any) -> None:
        for fake, real in self.classes(core):
            own = {name for name, value in vars(fake).items() if inspect.isfunction(value) and name[0] != "_"}
            assert own, fake
            assert own <= set(dir(real)), fake
        for name, field in (("Stream", "handle"), ("Buffer", "handle"), ("Buffer", "size"), ("GraphBuilder", "stream")):
            assert hasattr(getattr(core, name, None) or getattr(core.graph, name), field)

    def test_options_and_launches_are_taken(self, core: Any) -> None:
        assert core.EventOptions(blocking_sync=True).blocking_sync
        config = core.LaunchConfig(grid=3, block=128)
        assert (config.grid, config.block) == ((3, 1, 1), (128, 1, 1))
        assert callable(core.launch)

    def test_arguments_of_a_launch_are_those_that_cuda_core_can_pass(self, core: Any) -> None:
        from cuda.core._kernel_arg_handler import ParamHolder

        arguments = (4096, np.uint64(2**64 - 1), np.uint64(0), np.uint32(8), np.uint32(5), 4096, 4096, 4096)
        assert ParamHolder(arguments).ptr


@pytest.mark.gpu
class TestGpu:
    """What only a GPU can show: a real engine, its pixels those of ONNX Runtime, its latents those of the processor."""

    def test_a_compiled_bundle_on_a_gpu(self, tmp_path: Path) -> None:
        try:
            cuda.gpu(0)
            backend = next(name for name in ("tensorrt", "tensorrt-rtx") if find_spec(name.replace("-", "_")))
        except (BackendUnavailable, StopIteration) as error:
            pytest.skip(f"needs a GPU and TensorRT: {error}")
        from gen_engine.export.compile.candidates import Options
        from gen_engine.export.compile.search import compile_bundle

        bundle = make_tiny_bundle(tmp_path / "tiny.gen", size=6, latent_dim=DIM)
        compiled = compile_bundle(bundle, Options(target=backend, precision="fp32")).bundle
        _, graph = choose(
            compiled, Runtime(backend=backend, device="cuda", precision="fp32", batch=BATCH), lambda _: None
        )
        stream = open_backend(backend, compiled, graph, device="cuda", batch=BATCH).open_stream()
        assert isinstance(stream, TensorRtStream)
        other = open_backend("onnxruntime", bundle, canonical_graph(bundle), device="cpu", batch=BATCH).open_stream()
        latents = Latents(dim=DIM, seed=2)
        for first in (0, 5, 10**9):
            latents_BZ, labels_B = latents.draw(first, first + BATCH), inputs(first)[1]
            stream.submit_samples(first, latents, labels_B)
            drawn = stream.collect()["image"].copy()
            np.testing.assert_array_equal(drawn, run(stream, latents_BZ, labels_B))
            assert np.abs(drawn.astype(int) - run(other, latents_BZ, labels_B)).max() <= 1
