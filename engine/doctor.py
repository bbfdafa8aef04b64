"""What works on this machine and what does not, each found out by trying it.

Facts only, as rows; whoever shows them decides how. Nothing is installed, downloaded or written.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from gen_engine.engine.backends import BACKENDS, PRECISIONS, open_backend
from gen_engine.engine.bundle import Bundle, read_bundle
from gen_engine.engine.codecs import CODECS, open_codec
from gen_engine.engine.errors import BackendUnavailable, BundleError, EngineError, WriterUnavailable
from gen_engine.engine.labels import LabelPlan, Labels
from gen_engine.engine.lanes import usable_cpus
from gen_engine.engine.latents import Latents
from gen_engine.engine.render import Renderer
from gen_engine.engine.request import DEFAULT_BATCH
from gen_engine.engine.writers import FORMATS, open_format

PROBE_SECONDS = 0.2
"""Long enough for two digits of a rate, short enough to answer at once."""

PROBED_DEVICES = ("cpu", "cuda:0")

DEFAULT_DEVICE = "cpu"
"""What ``sample`` uses when no device is named."""

NOT_YET = {"openvino": "openvino", "tensorrt": "tensorrt"}
"""Runtime → its distribution: known to this project, but no backend of this version."""

SIMD = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16"),
)
"""Instruction sets that decide how fast a generator runs, x86 and Arm, by the kernel's names."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was looked at."""

    group: str
    """``backend``, ``runtime``, ``format``, ``codec``, ``training`` or ``processor``."""

    name: str

    works: bool | None
    """Whether it can be used; None for a mere fact."""

    detail: str
    """What was found or measured, or why it does not work."""

    fix: str | None = None
    """What to do about it, if something can be done."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found."""

    default_works: bool
    """True if the backend and device that ``sample`` uses by itself rendered a batch."""

    rows: tuple[Row, ...]


def examine(bundle: Path) -> Report:
    """Try everything that sampling may use here, with the generator of a bundle. Takes about a second."""
    backends = _backends(bundle)
    rows = [
        *_processor(),
        *backends,
        *_clashes(),
        *(_not_yet(name, distribution) for name, distribution in NOT_YET.items()),
        *(_writer("format", name) for name in FORMATS),
        *(_writer("codec", name) for name in CODECS),
    ]
    default = _backend_name(next(iter(BACKENDS)), DEFAULT_DEVICE, PRECISIONS[0])
    return Report(default_works=any(row.works for row in backends if row.name == default), rows=tuple(rows))


def installed(distribution: str) -> str | None:
    """Return the version of an installed package without importing it, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _backends(path: Path) -> list[Row]:
    names = [(b, d, p) for b in BACKENDS for d in PROBED_DEVICES for p in PRECISIONS]
    try:
        bundle = read_bundle(path)
    except BundleError as error:
        return [_backend_row(*name, works=None, detail=f"not tried: {error}", fix=_NO_BUNDLE) for name in names]
    return [_probe(bundle, *name) for name in names]


_NO_BUNDLE = "name a bundle to try it with (gen-engine doctor NAME.gen), or install gen-engine again"


def _probe(bundle: Bundle, backend: str, device: str, precision: str) -> Row:
    try:
        rate, runtime = _measure(bundle, backend, device, precision)
    except BackendUnavailable as error:
        reason, fix = _cuda_fault() if device != "cpu" else (str(error), None)
        return _backend_row(backend, device, precision, works=False, detail=reason or str(error), fix=fix)
    except EngineError as error:
        return _backend_row(backend, device, precision, works=False, detail=str(error))
    detail = f"{runtime}: {rate:,.0f} samples/s of {bundle.name} on one lane, measured just now"
    return _backend_row(backend, device, precision, works=True, detail=detail)


def _backend_name(backend: str, device: str, precision: str) -> str:
    return f"{backend} {device} {precision}"


def _backend_row(
    backend: str, device: str, precision: str, *, works: bool | None, detail: str, fix: str | None = None
) -> Row:
    return Row(
        group="backend", name=_backend_name(backend, device, precision), works=works, detail=_one_line(detail), fix=fix
    )


def _measure(bundle: Bundle, name: str, device: str, precision: str) -> tuple[float, str]:
    """Render for :data:`PROBE_SECONDS` after one batch to warm up; return samples a second and the runtime."""
    backend = open_backend(name, bundle, device=device, precision=precision, batch=DEFAULT_BATCH)
    labels = Labels(LabelPlan(kind="balanced"), bundle.labels.names, 0) if bundle.labels is not None else None
    latents = Latents(dim=bundle.latent.dim, distribution=bundle.latent.distribution)
    with contextlib.closing(Renderer(backend.lane(), backend.batch, latents, labels)) as renderer:
        first, _ = renderer.array(0, backend.batch)
        assert len(first) == backend.batch
        began, done = time.perf_counter(), 0
        while (seconds := time.perf_counter() - began) < PROBE_SECONDS:
            renderer.array(done, done + backend.batch)
            done += backend.batch
    return done / seconds, f"{backend.name} {backend.version}"


def _cuda_fault() -> tuple[str | None, str]:
    """Return what ONNX Runtime's CUDA provider lacks, which its own message does not say, and the fix.

    A provider library that cannot be loaded names the first library it misses.
    """
    spec = find_spec("onnxruntime")
    capi = Path(spec.origin).parent / "capi" if spec and spec.origin else None
    if capi is None or not (capi / "libonnxruntime_providers_cuda.so").exists():
        return (
            "the installed onnxruntime has no CUDA provider",
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu",
        )
    libraries = "pip install 'onnxruntime-gpu[cuda,cudnn]', or install the CUDA and cuDNN libraries of its release"
    for library, fix in (
        ("libcuda.so.1", "install NVIDIA's driver, on a machine with an NVIDIA GPU"),
        (str(capi / "libonnxruntime_providers_shared.so"), libraries),  # the next one refers to it
        (str(capi / "libonnxruntime_providers_cuda.so"), libraries),
    ):
        try:
            ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
        except OSError as error:
            return f"onnxruntime's CUDA provider does not load: {error}", fix
    return None, "see onnxruntime's CUDA provider page for the driver, CUDA and cuDNN that its release needs"


def _clashes() -> Iterator[Row]:
    """Two wheels that own the same files: which of them is imported is a matter of the order they came in."""
    plain, gpu = installed("onnxruntime"), installed("onnxruntime-gpu")
    if plain and gpu:
        yield Row(
            group="runtime",
            name="onnxruntime",
            works=False,
            detail=f"onnxruntime {plain} and onnxruntime-gpu {gpu} are both installed and overwrite each other's files",
            fix="pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu",
        )


def _not_yet(name: str, distribution: str) -> Row:
    found = installed(distribution)
    here = f"{name} {found} is installed" if found else f"{name} is not installed"
    return Row(
        group="runtime", name=name, works=False, detail=f"{here}; this version of gen-engine does not run on it yet"
    )


def _writer(group: str, name: str) -> Row:
    try:
        made = open_codec(name) if group == "codec" else open_format(name)
    except WriterUnavailable as error:
        return Row(
            group=group,
            name=name,
            works=False,
            detail=_one_line(str(error)),
            fix=f"pip install 'gen-engine[{name}]'",
        )
    return Row(group=group, name=name, works=True, detail=made.identity)


def _processor() -> Iterator[Row]:
    info = _cpu_info()
    name = info.get("model name") or platform.processor() or platform.machine()
    yield Row(group="processor", name="name", works=None, detail=name)
    yield Row(group="processor", name="cores", works=None, detail=f"{usable_cpus()} usable by this process")
    flags = set((info.get("flags") or info.get("Features") or "").split())
    found = " ".join(flag for flag in SIMD if flag in flags)
    yield Row(group="processor", name="simd", works=None, detail=found or "unknown: this system does not list them")


def _cpu_info() -> dict[str, str]:
    """Return what Linux says of its first processor; elsewhere nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    fields = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in fields}


def _one_line(text: str) -> str:
    return " ".join(text.split())
