"""Backends: what runs the generator, one file a runtime."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gen_engine.engine.errors import RequestError

if TYPE_CHECKING:
    from gen_engine.engine.backends.contract import Backend
    from gen_engine.engine.bundle import Bundle

BACKENDS = {"onnxruntime": "gen_engine.engine.backends.onnxruntime:OnnxRuntimeBackend"}
"""Name → where it lives. A backend's runtime is imported when it is opened and not before."""

DEVICES = ("cpu", "cuda", "cuda:N")
PRECISIONS = ("fp32",)


def open_backend(name: str, bundle: Bundle, *, device: str, precision: str, batch: int) -> Backend:
    """Open a bundle in a backend; ``auto`` is the fastest one that this bundle can use.

    Raises:
        RequestError: no backend has that name.
        BackendUnavailable: it does not work here, with the reason and the fix.
    """
    chosen = "onnxruntime" if name == "auto" else name
    if chosen not in BACKENDS:
        raise RequestError(f"backend {name!r}: known are auto, {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[chosen].partition(":")
    backend: type[Backend] = getattr(import_module(module), attribute)
    return backend(bundle, device=device, precision=precision, batch=batch)  # type: ignore[call-arg]
