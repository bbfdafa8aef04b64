"""``gen-engine doctor``: every line is of something that was tried, and a failure names its fix."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
import types
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from numpy_only import numpy_only
from tiny_bundle import make_tiny_bundle

from gen_engine.cli.main import main
from gen_engine.engine import doctor as doctor_module
from gen_engine.engine import native
from gen_engine.engine.backends import BACKENDS, cuda, cuda_latents
from gen_engine.engine.codecs import CODECS
from gen_engine.engine.errors import BackendError
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.engine.identity.variants import canonical_graph
from gen_engine.engine.writers import FORMATS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.gen").path


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run ``doctor --json`` and return its exit code and its rows by (group, name)."""
    monkeypatch.setattr(doctor_module, "PROBE_SECONDS", 0.01)

    def examined(*args: object) -> tuple[int, dict[tuple[str, str], dict]]:
        code = main(["doctor", "--json", *map(str, args)])
        record = json.loads(capsys.readouterr().out)
        assert record["default_works"] is (code == 0)
        return code, {(row["group"], row["name"]): row for row in record["rows"]}

    return examined


def test_everything_that_can_be_chosen_has_a_row(doctor, bundle: Path) -> None:
    _, rows = doctor(bundle)
    for group, names in (("format", FORMATS), ("codec", CODECS), ("runtime", ("cuda", "cuda-core"))):
        assert {name for kind, name in rows if kind == group} >= set(names)
    backends = {name for kind, name in rows if kind == "backend"}
    assert {name.partition(" ")[0] for name in backends} == set(BACKENDS)
    assert backends >= {
        "onnxruntime cpu fp32",
        "onnxruntime cuda:0 fp32",
        "onnxruntime-tensorrt cuda:0 fp32",
        "openvino cpu fp32",
        "openvino cpu bf16",
        "tensorrt cuda:0 fp32",
        "tensorrt-rtx cuda:0 fp32",
    }


def test_the_processor_runs_it_at_a_rate_that_was_measured(doctor, bundle: Path, monkeypatch) -> None:
    code, rows = doctor(bundle)
    assert code == 0
    row = rows["backend", "onnxruntime cpu fp32"]
    assert row["works"] is True
    assert row["fix"] is None
    rate = int(row["detail"].partition(": ")[2].partition(" samples/s of tiny")[0].replace(",", ""))
    assert rate > 1000
    frozen = iter([0.0, 0.0, 50.0])
    monkeypatch.setattr(doctor_module.time, "perf_counter", lambda: next(frozen))
    rate = doctor_module._measure(read_bundle(bundle), "onnxruntime", "cpu", canonical_graph(read_bundle(bundle)))[0]
    assert rate == pytest.approx(doctor_module.DEFAULT_BATCH / 50.0)


@pytest.mark.parametrize(("backend", "provider"), [("onnxruntime", "CUDA"), ("onnxruntime-tensorrt", "TensorRT")])
def test_a_device_that_does_not_work_says_why(doctor, bundle: Path, backend: str, provider: str) -> None:
    _, rows = doctor(bundle)
    row = rows["backend", f"{backend} cuda:0 fp32"]
    if row["works"]:
        pytest.skip(f"{provider} works here")
    assert f"{provider} provider" in row["detail"]
    assert row["fix"]


def test_openvino_is_tried_in_fp32_and_asked_about_bf16(doctor, bundle: Path, monkeypatch) -> None:
    _, rows = doctor(bundle)
    assert rows["backend", "openvino cpu fp32"]["works"] is True
    assert "samples/s of tiny on one stream, measured just now" in rows["backend", "openvino cpu fp32"]["detail"]
    row = rows["backend", "openvino cpu bf16"]
    assert row["works"] is ("lists bf16" in row["detail"])
    assert ("gen-engine compile" in row["detail"]) is row["works"]
    monkeypatch.setitem(sys.modules, "openvino", None)
    code, rows = doctor(bundle)
    assert code == 0
    for precision in ("fp32", "bf16"):
        row = rows["backend", f"openvino cpu {precision}"]
        assert row["works"] is False
        assert row["detail"].endswith("pip install 'gen-engine[openvino]'")


def test_a_wheel_without_cuda_is_told_from_a_machine_without_it(
    doctor, bundle: Path, monkeypatch, tmp_path: Path
) -> None:
    class Elsewhere:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(doctor_module, "find_spec", lambda name: Elsewhere)
    _, rows = doctor(bundle)
    row = rows["backend", "onnxruntime cuda:0 fp32"]
    if row["works"]:
        pytest.skip("CUDA works here")
    assert row["detail"] == "the installed onnxruntime has no CUDA provider"
    assert "pip install onnxruntime-gpu" in row["fix"]


def test_a_default_backend_that_fails_ends_with_4(doctor, bundle: Path, monkeypatch, capsys) -> None:
    def broken(*args: object, **options: object) -> None:
        raise BackendError("the runtime\nrefuses")

    monkeypatch.setattr(doctor_module, "open_backend", broken)
    code, rows = doctor(bundle)
    assert code == 4
    assert rows["backend", "onnxruntime cpu fp32"]["detail"] == "the runtime refuses"
    assert main(["doctor", str(bundle)]) == 4
    assert capsys.readouterr().out.endswith("gen-engine sample does not work here.\n")


def test_without_a_bundle_nothing_is_claimed(doctor, tmp_path: Path) -> None:
    code, rows = doctor(tmp_path / "missing.gen")
    assert code == 4
    for (group, name), row in rows.items():
        if group == "backend" and "bf16" not in name:
            assert row["works"] is None
            assert row["detail"].startswith("not tried: ")
            assert "gen-engine doctor NAME.gen" in row["fix"]


def test_the_shipped_bundle_is_the_default(doctor, bundle: Path, monkeypatch) -> None:
    monkeypatch.setattr("gen_engine.engine.identity.bundle.SHIPPED", bundle)
    assert "samples/s of tiny" in doctor()[1]["backend", "onnxruntime cpu fp32"]["detail"]


def test_two_wheels_of_one_runtime_are_a_fault(doctor, bundle: Path, monkeypatch) -> None:
    assert ("runtime", "onnxruntime") not in doctor(bundle)[1]
    monkeypatch.setattr(doctor_module, "installed", lambda name: "1.31.1")
    row = doctor(bundle)[1]["runtime", "onnxruntime"]
    assert row["works"] is False
    assert row["detail"].startswith("onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 are both installed")
    assert row["fix"].startswith("pip uninstall onnxruntime onnxruntime-gpu")


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_says_what_it_lacks(doctor, bundle: Path, monkeypatch, backend: str) -> None:
    library = backend.replace("-", "_")
    monkeypatch.setitem(sys.modules, library, None)
    row = doctor(bundle)[1]["backend", f"{backend} cuda:0 fp32"]
    assert row["works"] is False
    assert row["detail"].endswith(f"pip install 'gen-engine[{backend}]'")
    monkeypatch.setitem(sys.modules, library, types.ModuleType(library))
    monkeypatch.setattr(cuda, "DRIVER", "libcuda-that-is-not-there.so.1")
    row = doctor(bundle)[1]["backend", f"{backend} cuda:0 fp32"]
    assert row["works"] is False
    assert "no NVIDIA driver here (libcuda-that-is-not-there" in row["detail"]


def test_gpus_are_what_the_driver_lists(doctor, bundle: Path, monkeypatch) -> None:
    big = cuda.Gpu(name="Big", compute_capability="9.0", driver="13.1")
    for gpus, works, said in (((big,), True, "driver for CUDA 13.1: cuda:0 Big (9.0)"), ((), False, "lists no GPU")):
        monkeypatch.setattr(doctor_module, "visible_gpus", lambda gpus=gpus: gpus)
        row = doctor(bundle)[1]["runtime", "cuda"]
        assert row["works"] is works
        assert said in row["detail"]


def test_cuda_core_compiles_the_latents_kernel_or_is_named(doctor, bundle: Path, monkeypatch) -> None:
    if find_spec("cuda") is not None:
        row = doctor(bundle)[1]["runtime", "cuda-core"]
        assert row["works"] is True
        assert row["detail"].endswith("the latents' kernel compiles")
    cuda_latents.compile_kernel.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    row = doctor(bundle)[1]["runtime", "cuda-core"]
    assert row["works"] is False
    assert "pip install 'gen-engine[cuda]'" in row["detail"]


@pytest.mark.parametrize(
    ("library", "group", "name"),
    [("simplejpeg", "codec", "jpeg"), ("pyarrow", "format", "parquet")],
)
def test_a_missing_library_is_named_with_its_extra(
    doctor, bundle: Path, monkeypatch, library: str, group: str, name: str
) -> None:
    assert doctor(bundle)[1][group, name]["works"] is True
    monkeypatch.setitem(sys.modules, library, None)
    row = doctor(bundle)[1][group, name]
    assert row["works"] is False
    assert library in row["detail"]
    assert row["fix"] == f"pip install 'gen-engine[{name}]'"


def test_training_libraries_are_read_from_their_metadata(doctor, bundle: Path, monkeypatch) -> None:
    _, rows = doctor(bundle)
    assert rows["training", "libraries"]["works"] is True
    assert f"torch {version('torch')}" in rows["training", "libraries"]["detail"]
    assert rows["training", "devices"]["works"] is None
    monkeypatch.setattr(doctor_module, "installed", lambda name: None)
    _, rows = doctor(bundle)
    row = rows["training", "libraries"]
    assert row["detail"].startswith("not installed: torch, safetensors")
    assert row["fix"] == "pip install 'gen-engine[train]'"
    assert ("training", "devices") not in rows


def test_all_tries_what_torch_can_do(doctor, bundle: Path) -> None:
    import torch

    _, rows = doctor(bundle, "--all")
    assert rows["training", "torch cpu fp32"]["works"] is True
    assert rows["training", "torch cuda fp32"]["works"] is torch.cuda.is_available()
    assert "torch cpu bf16" in {name for _, name in rows}


def test_what_people_read(bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(doctor_module, "PROBE_SECONDS", 0.01)
    assert main(["doctor", str(bundle)]) == 0
    out = capsys.readouterr().out
    for group in ("processor", "backend", "runtime", "format", "codec", "training"):
        assert f"\n{group}\n" in f"\n{out}"
    assert "onnxruntime cpu fp32 yes onnxruntime" in " ".join(out.split())
    assert out.endswith("gen-engine sample works here.\n")


@pytest.mark.parametrize(
    ("text", "name", "simd"),
    [
        ("model name\t: Fast CPU\nflags\t\t: fpu avx2 fma\n\nmodel name: Other\n", "Fast CPU", "avx2 fma"),
        ("processor\t: 0\nFeatures\t: asimd sve\n", None, "asimd sve"),
        (None, None, "unknown: this system does not list them"),
    ],
)
def test_the_processor(monkeypatch, text: str | None, name: str | None, simd: str) -> None:
    def read(path: str, *limits: object, **options: object) -> str:
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr("gen_engine.engine.base.processor.read_text", read)
    rows = {row.name: row for row in doctor_module._processor()}
    assert rows["simd"].detail == simd
    assert rows["name"].detail
    assert name is None or rows["name"].detail == name
    assert {row.works for row in rows.values()} == {None}


def test_it_answers_at_once_and_without_torch(bundle: Path) -> None:
    program = (
        "import sys; from gen_engine.cli.main import main\n"
        f"code = main(['doctor', {str(bundle)!r}])\n"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 10, "seconds at most, however loaded this machine is"


def test_what_only_the_compiled_core_replaces_is_missing_without_both(doctor, bundle: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    rows = doctor(bundle)[1]
    assert rows["format", "tfrecord"]["works"] is True
    assert "avx2" in rows["runtime", "compiled core"]["detail"] or platform.machine() != "x86_64"
    with numpy_only():
        rows = doctor(bundle)[1]
    assert rows["format", "tfrecord"]["works"] is False
    assert "pip install 'gen-engine[tfrecord]'" in rows["format", "tfrecord"]["detail"]
    assert "not used, since GEN_ENGINE_NATIVE=0" in rows["runtime", "compiled core"]["detail"]


def test_a_core_that_was_not_built_is_named_with_its_fix(doctor, bundle: Path, monkeypatch) -> None:
    monkeypatch.setattr(native, "found", lambda: native.Found(None, "it was not built"))
    row = doctor(bundle)[1]["runtime", "compiled core"]
    assert row["works"] is False
    assert row["detail"].startswith("it was not built; samples are stored by NumPy code")
    assert "C compiler" in row["fix"]
