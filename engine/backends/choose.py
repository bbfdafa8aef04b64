"""Which backend and which of a bundle's graphs a job runs."""

from __future__ import annotations

from collections.abc import Callable

from gen_engine.engine.backends import BACKENDS, PRECISIONS, import_runtime, open_backend
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.base.processor import isa
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.variants import CANONICAL, Graph, Variant, canonical_graph, read_variants, variant_graph

DEFAULT_BACKEND = "onnxruntime"
"""What runs the canonical graph when no backend is named."""


def choose(
    bundle: Bundle, *, backend: str, device: str, precision: str, batch: int | None, note: Callable[[str], None]
) -> tuple[str, Graph]:
    """Return the backend and the graph that a job runs.

    With nothing asked for, the fastest variant for this device and this processor, if one was measured to be faster
    than the canonical graph in ONNX Runtime; else that. A backend or a precision that is named is the one used.

    Args:
        bundle: the generator.
        backend: one of :data:`~gen_engine.engine.backends.BACKENDS`, or ``auto``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: one of :data:`~gen_engine.engine.backends.PRECISIONS`, or ``auto``.
        batch: samples a call, if they were asked for: what is fast in batches need not be so for one sample.
        note: hears of each variant that would have been used and cannot be: why, and what to do.

    Raises:
        RequestError: no backend or precision has that name.
        BackendUnavailable: the bundle has nothing for this backend and precision that runs here.
        BundleError: a variant's record cannot be used.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise BACKENDS.unknown(backend, "auto")
    if precision not in ("auto", *PRECISIONS):
        raise RequestError(f"unknown precision {precision!r}: choose one of auto, {', '.join(PRECISIONS)}")
    variants = read_variants(bundle)
    passed: list[str] = []
    for variant in _candidates(variants, backend, device.partition(":")[0], precision, batch):
        if reason := _hindrance(variant, asked=precision != "auto", named=backend != "auto" or precision != "auto"):
            passed.append(f"variant {variant.name} is passed over: {reason}")
            continue
        if precision != "auto" and (foreign := _foreign(variant)):
            passed.append(f"variant {variant.name} is used as asked, but {foreign} for its speed on this one")
        _tell(passed, note)
        return variant.target, variant_graph(bundle, variant)
    if precision not in ("auto", "fp32"):
        raise BackendUnavailable(_nothing_for(bundle, variants, backend, device, precision, passed))
    _tell(passed, note)
    return DEFAULT_BACKEND if backend == "auto" else backend, canonical_graph(bundle)


def open_reference(bundle: Bundle) -> Backend:
    """Open the canonical graph at one sample per call where it always runs: in :data:`DEFAULT_BACKEND` on the CPU."""
    return open_backend(DEFAULT_BACKEND, bundle, canonical_graph(bundle), device="cpu", batch=1)


def _candidates(
    variants: tuple[Variant, ...], backend: str, device: str, precision: str, batch: int | None
) -> list[Variant]:
    """Return the variants that could be used, the fastest first; those that the canonical graph outruns left out."""

    def speedup(variant: Variant) -> float | None:
        return variant.speedup_at_1 if batch == 1 else variant.speedup

    asked = [
        v
        for v in variants
        if v.device == device and backend in ("auto", v.target) and precision in ("auto", v.precision)
    ]
    if backend in ("auto", DEFAULT_BACKEND) and precision in ("auto", "fp32"):
        asked = [v for v in asked if (measured := speedup(v)) is None or measured > 1]
    return sorted(asked, key=lambda v: -(speedup(v) or 0.0))


def _hindrance(variant: Variant, *, asked: bool, named: bool) -> str | None:
    """Say why a variant cannot be used here and what to do, or None. A precision that was asked for may be slow.

    One whose speed is not known is used if its backend or its precision was ``named``.
    """
    if variant.target not in BACKENDS:
        return f"this gen-engine has no backend {variant.target}; update gen-engine"
    if not named and variant.speedup is None:
        return "its speed was not measured; name it with --backend or --precision, or compile the bundle again"
    if not asked and (foreign := _foreign(variant)):
        return foreign
    try:
        import_runtime(variant.target)
    except BackendUnavailable as error:
        return str(error)
    return None


def _foreign(variant: Variant) -> str | None:
    """Say that a variant was compiled for a processor with other instructions than this one's, or None."""
    if variant.device != "cpu" or tuple(variant.built_for["isa"]) == isa():
        return None
    return (
        f"it was compiled for a processor with other instructions ({variant.built_for['processor']}); "
        "compile the bundle again here"
    )


def _nothing_for(
    bundle: Bundle, variants: tuple[Variant, ...], backend: str, device: str, precision: str, passed: list[str]
) -> str:
    has = ", ".join([f"fp32 ({CANONICAL})", *(f"{v.precision} ({v.target}, {v.device})" for v in variants)])
    target = "" if backend == "auto" else f" --target {backend}"
    return "; ".join(
        [
            f"precision {precision!r}: bundle {bundle.path} has {has}, and nothing in {precision} that runs "
            + (f"on {device}" if backend == "auto" else f"in {backend} on {device}"),
            *passed,
            f"make it with 'gen-engine compile {bundle.path}{target} --precision {precision}'",
        ]
    )


def _tell(said: list[str], note: Callable[[str], None]) -> None:
    for sentence in said:
        note(sentence)
