"""Choose the backend and the graph of a bundle that a job runs."""

from __future__ import annotations

from collections.abc import Callable

from gen_engine.engine.backends import BACKENDS, PRECISIONS, check_runtime, open_backend
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.base.processor import isa
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.identity.variants import CANONICAL, Graph, Variant, canonical_graph, read_variants, variant_graph

DEFAULT_BACKEND = "onnxruntime"
"""The backend of the canonical graph when none is requested."""


def choose(bundle: Bundle, runtime: Runtime, on_message: Callable[[str], None]) -> tuple[str, Graph]:
    """Return the backend and the graph that a job runs.

    By default, the fastest variant for this device and processor, if one was measured to be faster than the canonical
    graph in ONNX Runtime; otherwise the canonical graph. A backend or precision that is requested is always used.

    Args:
        bundle: the generator.
        runtime: what is requested. A variant that is fast in batches may be slow for a single sample.
        on_message: called with the reason and the fix for each variant that would have been used and cannot be.

    Raises:
        RequestError: no backend or precision has that name.
        BackendUnavailable: the bundle has no graph for this backend and precision that runs here.
        BundleError: a variant's record cannot be used.
    """
    backend, precision = runtime.backend, runtime.precision
    if backend != "auto" and backend not in BACKENDS:
        raise BACKENDS.unknown(backend, "auto")
    if precision not in ("auto", *PRECISIONS):
        raise RequestError(f"unknown precision {precision!r}: choose one of auto, {', '.join(PRECISIONS)}")
    variants = read_variants(bundle)
    passed: list[str] = []
    for variant in _candidates(variants, runtime):
        if reason := _obstacle(variant, runtime):
            passed.append(f"variant {variant.name} is skipped: {reason}")
            continue
        if precision != "auto" and (reason := _built_elsewhere(variant)):
            passed.append(f"variant {variant.name} is used as requested, but {reason} for its speed on this one")
        _send(passed, on_message)
        return variant.target, variant_graph(bundle, variant)
    if precision not in ("auto", "fp32"):
        raise BackendUnavailable(_nothing_for(bundle, variants, runtime, passed))
    _send(passed, on_message)
    return DEFAULT_BACKEND if backend == "auto" else backend, canonical_graph(bundle)


def open_reference(bundle: Bundle) -> Backend:
    """Open the canonical graph at one sample per call where it always runs: in :data:`DEFAULT_BACKEND` on the CPU."""
    return open_backend(DEFAULT_BACKEND, bundle, canonical_graph(bundle), device="cpu", batch=1)


def _candidates(variants: tuple[Variant, ...], runtime: Runtime) -> list[Variant]:
    """Return the variants that could be used, the fastest first, without those slower than the canonical graph."""

    def speedup(variant: Variant) -> float | None:
        return variant.speedup_at_1 if runtime.batch == 1 else variant.speedup

    fitting = [
        v
        for v in variants
        if v.device == runtime.device.partition(":")[0]
        and runtime.backend in ("auto", v.target)
        and runtime.precision in ("auto", v.precision)
    ]
    if runtime.backend in ("auto", DEFAULT_BACKEND) and runtime.precision in ("auto", "fp32"):
        fitting = [v for v in fitting if (measured := speedup(v)) is None or measured > 1]
    return sorted(fitting, key=lambda v: -(speedup(v) or 0.0))


def _obstacle(variant: Variant, runtime: Runtime) -> str | None:
    """Return why a variant cannot be used here and what to do, or None.

    With a requested precision it may be slow. A variant of unknown speed is used if its backend or precision is
    requested. int8 is refused on other instructions even then: without VNNI its sums may saturate, which the accuracy
    gate of ``gen-engine compile`` can only see where it runs.
    """
    named = runtime.backend != "auto" or runtime.precision != "auto"
    if variant.target not in BACKENDS:
        return f"this gen-engine has no backend {variant.target}; update gen-engine"
    if not named and variant.speedup is None:
        return "its speed was not measured; name it with --backend or --precision, or compile the bundle again"
    if (runtime.precision == "auto" or variant.precision == "int8") and (reason := _built_elsewhere(variant)):
        return reason
    try:
        check_runtime(variant.target)
    except (BackendUnavailable, RequestError) as error:
        return str(error)
    return None


def _built_elsewhere(variant: Variant) -> str | None:
    """Return the reason if a variant was compiled for a processor with other instructions than this one's, or None."""
    if variant.device != "cpu" or tuple(variant.built_for["isa"]) == isa():
        return None
    return (
        f"it was compiled for a processor with other instructions ({variant.built_for['processor']}); "
        "compile the bundle again here"
    )


def _nothing_for(bundle: Bundle, variants: tuple[Variant, ...], runtime: Runtime, passed: list[str]) -> str:
    has = ", ".join([f"fp32 ({CANONICAL})", *(f"{v.precision} ({v.target}, {v.device})" for v in variants)])
    precision, anywhere = runtime.precision, runtime.backend == "auto"
    where = f"on {runtime.device}" if anywhere else f"in {runtime.backend} on {runtime.device}"
    target = "" if anywhere else f" --target {runtime.backend}"
    return "; ".join(
        [
            f"precision {precision!r}: bundle {bundle.path} has {has}, and nothing in {precision} that runs {where}",
            *passed,
            f"make it with 'gen-engine compile {bundle.path}{target} --precision {precision}'",
        ]
    )


def _send(messages: list[str], on_message: Callable[[str], None]) -> None:
    for message in messages:
        on_message(message)
