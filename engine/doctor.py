"""Find out what works on this machine and what does not, by trying it.

Returns facts as rows; how they are displayed is up to the caller. Nothing is installed, downloaded or written.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from gen_engine.engine import native
from gen_engine.engine.backends import BACKENDS, ENGINES, open_backend
from gen_engine.engine.backends.choose import DEFAULT_BACKEND
from gen_engine.engine.backends.cuda import visible_gpus
from gen_engine.engine.backends.cuda_latents import compile_kernel
from gen_engine.engine.backends.openvino import shared_core
from gen_engine.engine.base.processor import isa, processor_name, usable_cpus
from gen_engine.engine.codecs import CODECS, open_codec
from gen_engine.engine.errors import BackendUnavailable, BundleError, EngineError, WriterUnavailable
from gen_engine.engine.identity.bundle import Bundle, read_bundle
from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import DEFAULT_BATCH
from gen_engine.engine.identity.variants import Graph, canonical_graph, read_variants, variant_graph
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.writers import FORMATS, open_format

PROBE_SECONDS = 0.2
"""Long enough for two significant digits of a rate, short enough to answer at once."""

PROBED_DEVICES = {
    "onnxruntime": ("cpu", "cuda:0"),
    "onnxruntime-tensorrt": ("cuda:0",),
    "openvino": ("cpu",),
    "tensorrt": ("cuda:0",),
    "tensorrt-rtx": ("cuda:0",),
}
"""Backend → the devices to try it on."""

DEFAULT_DEVICE = "cpu"
"""The device that ``sample`` uses by default."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One item that was checked."""

    group: str
    """``backend``, ``runtime``, ``format``, ``codec``, ``training`` or ``processor``."""

    name: str

    works: bool | None
    """Whether it can be used; None for information only."""

    detail: str
    """The result or measurement, or why it does not work."""

    fix: str | None = None
    """The fix, if there is one."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All rows."""

    default_works: bool
    """True if the default backend and device of ``sample`` rendered a batch."""

    rows: tuple[Row, ...]


def examine(bundle: Path) -> Report:
    """Try everything that sampling may use here, with the generator of a bundle. Takes about a second."""
    backends = _backends(bundle)
    rows = [
        *_processor(),
        _core(),
        *backends,
        *_clashes(),
        *_gpus(),
        *(_writer("format", name) for name in FORMATS),
        *(_writer("codec", name) for name in CODECS),
    ]
    default = _backend_name(DEFAULT_BACKEND, DEFAULT_DEVICE)
    return Report(default_works=any(row.works for row in backends if row.name == default), rows=tuple(rows))


def installed(distribution: str) -> str | None:
    """Return the version of an installed package without importing it, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _backends(path: Path) -> list[Row]:
    names = [(backend, device) for backend in BACKENDS for device in PROBED_DEVICES.get(backend, ("cpu",))]
    try:
        bundle = read_bundle(path)
    except BundleError as error:
        rows = [_backend_row(*name, works=None, detail=f"not tried: {error}", fix=_NO_BUNDLE) for name in names]
    else:
        rows = [_probe(bundle, *name) for name in names]
    return [*rows, _openvino_bf16()]


_NO_BUNDLE = "name a bundle to try it with (gen-engine doctor NAME.gen), or install gen-engine again"


def _probe(bundle: Bundle, backend: str, device: str) -> Row:
    try:
        graph = _graph_for(bundle, backend)
        rate, runtime = _measure(bundle, backend, device, graph)
    except BackendUnavailable as error:
        reason, fix = _gpu_fault(backend) if backend in _PROVIDERS and device != "cpu" else (str(error), None)
        return _backend_row(backend, device, works=False, detail=reason or str(error), fix=fix)
    except EngineError as error:
        return _backend_row(backend, device, works=False, detail=str(error))
    detail = f"{runtime}: {rate:,.0f} samples/s of {bundle.name} on one stream, measured just now"
    return _backend_row(backend, device, works=True, detail=detail)


def _openvino_bf16() -> Row:
    """Whether a bf16 graph would be computed in bf16: as the runtime reports, since the canonical graph is fp32."""
    try:
        capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except BackendUnavailable as error:
        return _backend_row("openvino", "cpu", "bf16", works=False, detail=str(error))
    has = "BF16" in capabilities
    detail = f"openvino {'lists' if has else 'does not list'} bf16 among the precisions of this processor"
    use = "; 'gen-engine compile NAME.gen --precision bf16' makes a variant that uses it"
    return _backend_row("openvino", "cpu", "bf16", works=has, detail=detail + use if has else detail)


def _backend_name(backend: str, device: str, precision: str = "fp32") -> str:
    return f"{backend} {device} {precision}"


def _backend_row(
    backend: str, device: str, precision: str = "fp32", *, works: bool | None, detail: str, fix: str | None = None
) -> Row:
    return Row(
        group="backend", name=_backend_name(backend, device, precision), works=works, detail=_one_line(detail), fix=fix
    )


def _graph_for(bundle: Bundle, backend: str) -> Graph:
    """Return the graph to try a backend with: the canonical one, or for an engine a variant's, if there is one."""
    variants = [variant for variant in read_variants(bundle) if variant.target == backend]
    return variant_graph(bundle, variants[0]) if backend in ENGINES and variants else canonical_graph(bundle)


def _measure(bundle: Bundle, name: str, device: str, graph: Graph) -> tuple[float, str]:
    """Render for :data:`PROBE_SECONDS` after one batch to warm up; return samples per second and the runtime."""
    backend = open_backend(name, bundle, graph, device=device, batch=graph.batch or DEFAULT_BATCH, build=False)
    labels = Labels(LabelPlan(kind="balanced"), bundle.labels.names, 0) if bundle.labels is not None else None
    latents = Latents(dim=bundle.latent.dim, distribution=bundle.latent.distribution)
    with contextlib.closing(
        Renderer(backend.open_stream(), backend.batch, latents, labels, bundle.schema())
    ) as renderer:
        first = renderer.array(0, backend.batch)
        assert len(first) == backend.batch
        began, done = time.perf_counter(), 0
        while (seconds := time.perf_counter() - began) < PROBE_SECONDS:
            renderer.array(done, done + backend.batch)
            done += backend.batch
    return done / seconds, f"{backend.name} {backend.version}"


def _gpu_fault(backend: str) -> tuple[str | None, str]:
    """Return what ONNX Runtime's provider lacks, which its own error omits, and the fix.

    The load error of a provider library names the first missing library.
    """
    name, needs = _PROVIDERS[backend]
    spec = find_spec("onnxruntime")
    capi = Path(spec.origin).parent / "capi" if spec and spec.origin else None
    provider = None if capi is None else capi / f"libonnxruntime_providers_{name.lower()}.so"
    if capi is None or provider is None or not provider.exists():
        return (
            f"the installed onnxruntime has no {name} provider",
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu",
        )
    libraries = f"pip install 'onnxruntime-gpu[cuda,cudnn]', or install the {needs} libraries of its release"
    for library, fix in (
        ("libcuda.so.1", "install NVIDIA's driver, on a machine with an NVIDIA GPU"),
        (str(capi / "libonnxruntime_providers_shared.so"), libraries),  # the next error refers to it
        (str(provider), libraries),
    ):
        try:
            ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
        except OSError as error:
            return f"onnxruntime's {name} provider does not load: {error}", fix
    return None, f"see onnxruntime's {name} provider page for the driver and the {needs} that its release needs"


_PROVIDERS = {
    "onnxruntime": ("CUDA", "CUDA and cuDNN"),
    "onnxruntime-tensorrt": ("TensorRT", "CUDA, cuDNN and TensorRT"),
}
"""Backend → its provider, and the libraries that this is linked to."""


def _clashes() -> Iterator[Row]:
    """Detect two wheels that own the same files: the one that was installed last is imported."""
    plain, gpu = installed("onnxruntime"), installed("onnxruntime-gpu")
    if plain and gpu:
        yield Row(
            group="runtime",
            name="onnxruntime",
            works=False,
            detail=f"onnxruntime {plain} and onnxruntime-gpu {gpu} are both installed and overwrite each other's files",
            fix="pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu",
        )


def _gpus() -> Iterator[Row]:
    """Rows for the GPUs and the kernel of their latents, which every engine needs besides its library."""
    try:
        gpus = visible_gpus()
    except BackendUnavailable as error:
        yield Row(group="runtime", name="cuda", works=False, detail=_one_line(str(error)))
    else:
        names = ", ".join(f"cuda:{i} {gpu.name} ({gpu.compute_capability})" for i, gpu in enumerate(gpus))
        serves = f"driver for CUDA {gpus[0].driver}: {names}" if gpus else "the NVIDIA driver lists no GPU"
        yield Row(group="runtime", name="cuda", works=bool(gpus), detail=serves)
    try:
        compile_kernel(_PROBED_ARCHITECTURE)
    except BackendUnavailable as error:
        yield Row(group="runtime", name="cuda-core", works=False, detail=_one_line(str(error)))
    else:
        detail = f"cuda-core {installed('cuda-core')}: the latents' kernel compiles"
        yield Row(group="runtime", name="cuda-core", works=True, detail=detail)


_PROBED_ARCHITECTURE = "90"


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
    yield Row(group="processor", name="name", works=None, detail=processor_name())
    yield Row(group="processor", name="cores", works=None, detail=f"{usable_cpus()} usable by this process")
    instructions = " ".join(isa())
    yield Row(
        group="processor", name="simd", works=None, detail=instructions or "unknown: this system does not list them"
    )


def _core() -> Row:
    """The compiled core, without which sampling is slower."""
    here = native.found()
    if here.core is None:
        return Row(
            group="runtime",
            name="compiled core",
            works=False,
            detail=_one_line(f"{here.fault}; samples are stored by NumPy code, with the same bytes"),
            fix="pip install --force-reinstall --no-binary gen-engine gen-engine, with a C compiler and Python 3.11",
        )
    features = ", ".join(here.core.features()) or "none of the processor's SIMD extensions"
    off = f"; not used, since {native.SWITCH}=0" if native.core() is None else ""
    return Row(
        group="runtime", name="compiled core", works=not off, detail=f"build {here.core.BUILD}, with {features}{off}"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
