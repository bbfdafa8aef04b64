"""Backends: run the generator, one module per runtime."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from gen_engine.engine.base.registry import Registry
from gen_engine.engine.errors import BackendUnavailable, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gen_engine.engine.backends.contract import Backend
    from gen_engine.engine.identity.bundle import Bundle
    from gen_engine.engine.identity.variants import Graph

ENGINES: Final = ("tensorrt", "tensorrt-rtx")
"""Backends that run an engine, which may have to be built first."""

BUILT: Final = (*ENGINES, "onnxruntime-tensorrt")
"""Backends that build an engine for one batch size, which may take minutes."""

BACKENDS = Registry(
    "gen_engine.backends",
    "backend",
    RequestError,
    {
        "onnxruntime": "gen_engine.engine.backends.onnxruntime:OnnxRuntimeBackend",
        "onnxruntime-tensorrt": "gen_engine.engine.backends.onnxruntime_tensorrt:OnnxRuntimeTensorRtBackend",
        "openvino": "gen_engine.engine.backends.openvino:OpenVinoBackend",
        "tensorrt": "gen_engine.engine.backends.tensorrt:TensorRtBackend",
        "tensorrt-rtx": "gen_engine.engine.backends.tensorrt:TensorRtRtxBackend",
    },
)
"""Values of ``--backend`` besides ``auto``; a package adds one by an entry point in the group
``gen_engine.backends``. A backend's runtime is imported when it is opened, never before."""

RUNTIMES = {
    "onnxruntime": "onnxruntime",
    "onnxruntime-tensorrt": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}
"""Backend of this package → the library that it imports."""

INSTALL = {
    "onnxruntime": "pip install onnxruntime-gpu (Linux x86-64) or onnxruntime (elsewhere), never both",
    "openvino": "pip install 'gen-engine[openvino]'",
    "tensorrt": "pip install 'gen-engine[tensorrt]'",
    "tensorrt_rtx": "pip install 'gen-engine[tensorrt-rtx]'",
}
"""Library → how to install it."""

DEVICES = ("cpu", "cuda", "cuda:N")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


def open_backend(
    name: str,
    bundle: Bundle,
    graph: Graph,
    *,
    device: str,
    batch: int,
    build: bool = True,
    on_message: Callable[[str], None] = lambda _: None,
) -> Backend:
    """Open a graph of a bundle in a backend. :func:`gen_engine.engine.backends.choose.choose` chooses both.

    Args:
        name: one of :data:`BACKENDS`.
        bundle: the generator.
        graph: its graph.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        batch: samples per call.
        build: for :data:`ENGINES`, whether a missing or stale engine may be built, which takes minutes.
        on_message: called with the reason when an engine is built.

    Raises:
        RequestError: no backend has that name.
        BackendUnavailable: the backend does not work here, with the reason and the fix.
    """
    backend: type[Backend] = BACKENDS.load(name)
    options = {"build": build, "on_message": on_message} if name in ENGINES else {}
    return backend(bundle, graph, device=device, batch=batch, **options)  # type: ignore[call-arg]


def import_runtime(name: str) -> Any:
    """Import the library behind a backend, and return its module.

    Raises:
        BackendUnavailable: it cannot be imported, with the reason and what to install.
    """
    library = RUNTIMES[name]
    # If this package can be imported, importing openvino sends telemetry to a web service and leaves files in the home
    # directory. A sampling job sends no telemetry.
    silenced = library == "openvino" and sys.modules.setdefault(_TELEMETRY, None) is None  # type: ignore[arg-type]
    try:
        return import_module(library)
    except (ImportError, OSError) as error:  # TensorRT's loads other libraries during import
        raise BackendUnavailable(f"{library} cannot be imported ({error}); {INSTALL[library]}") from error
    finally:
        if silenced:
            del sys.modules[_TELEMETRY]


def check_runtime(name: str) -> None:
    """Import what a backend needs: its library, or the plugin that adds the backend.

    Raises:
        BackendUnavailable: the library cannot be imported, with the reason and what to install.
        RequestError: no backend has that name, or its plugin cannot be imported.
    """
    if name in RUNTIMES:
        import_runtime(name)
    else:
        BACKENDS.load(name)


_TELEMETRY = "openvino_telemetry"


def runtime_version(name: str) -> str:
    """Return the version of the library behind a backend of this package without importing it, or ``unknown``."""
    for distribution in _DISTRIBUTIONS[RUNTIMES[name]]:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


_DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt-rtx",),
}
