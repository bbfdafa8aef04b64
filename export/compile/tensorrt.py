"""A bundle's generator as a TensorRT engine, kept in the bundle with the typed graph that it is rebuilt from.

Without a GPU an engine can be built (by TensorRT-RTX) but not run: its record states that nothing was measured, and
``--backend auto`` does not choose it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gen_engine.engine.backends import import_runtime
from gen_engine.engine.backends.cuda import Gpu, gpu
from gen_engine.engine.backends.tensorrt_engine import PLAN, RECORD, BuildOptions, BuiltEngine, build_engine
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.identity.bundle import GENERATOR, Bundle
from gen_engine.engine.identity.variants import Variant, add_variant
from gen_engine.export.compile.lower import lower
from gen_engine.export.compile.precision import cast, quantize
from gen_engine.export.compile.tensorrt_graph import prepare

LOWERINGS = ("batchnorm", "dense", "subpixel", "upsample-conv", "activation-first")
"""TensorRT builds no ConvTranspose in bf16 or int8; in the other precisions its own is left to it."""

_LOWERED = frozenset({"bf16", "int8"})
NOT_MEASURED = "not measured: 'compile' builds engines and does not run them"


def compile_engine(
    bundle: Bundle,
    *,
    target: str,
    precision: str,
    max_batch: int,
    calibration: Iterable[Mapping[str, NDArray[Any]]],
    out: Path | None,
    progress: Callable[[str], None],
) -> tuple[Bundle, Variant]:
    """Build an engine and keep it in the bundle; return the bundle as it is then, and the engine's record.

    Args:
        bundle: what to compile.
        target: ``tensorrt`` or ``tensorrt-rtx``.
        precision: one of :data:`gen_engine.engine.backends.tensorrt_engine.PRECISIONS` but fp8; ``auto`` is fp16.
        max_batch: the largest number of samples per call.
        calibration: inputs that int8's ranges are taken from.
        out: write a compiled copy there.
        progress: called with a sentence for each step.

    Raises:
        BackendUnavailable: TensorRT is not installed.
        EngineBuildError: it refused the graph.
        OutputError: the bundle cannot be written.
    """
    trt = import_runtime(target)
    precision = "fp16" if precision == "auto" else precision
    typed = _typed_graph(bundle, precision, calibration)
    options = BuildOptions(
        precision=precision,
        min_batch=bundle.fixed_batch or 1,
        opt_batch=bundle.fixed_batch or min(64, max_batch),
        max_batch=bundle.fixed_batch or max_batch,
    )
    progress(f"building {target} {precision} for batches {options.min_batch} to {options.max_batch}")
    here = _gpu_here()
    built = build_engine(typed, options, trt=trt, gpu=here)
    variant = _variant(bundle, target, options, built, here)
    files = {GENERATOR: typed, PLAN: built.plan, RECORD: built.record.to_json()}
    return add_variant(bundle, variant, files, out=out), variant


def _lowerings(precision: str) -> tuple[str, ...]:
    return LOWERINGS if precision in _LOWERED else ("batchnorm",)


def _typed_graph(bundle: Bundle, precision: str, calibration: Iterable[Mapping[str, NDArray[Any]]]) -> bytes:
    """Return the generator lowered and in ``precision``, as TensorRT takes it."""
    lowered = lower(
        bundle.load(GENERATOR), _lowerings(precision), outputs=[output.tensor for output in bundle.outputs]
    ).model
    if precision == "int8":
        return prepare(quantize(lowered, calibration, device="cuda"), precision)
    return prepare(cast(lowered, "fp32" if precision == "tf32" else precision), precision)


def _variant(bundle: Bundle, target: str, options: BuildOptions, built: BuiltEngine, here: Gpu | None) -> Variant:
    """Return the record of an engine, of which nothing was measured."""
    return Variant(
        name=f"{target}-{options.precision}",
        target=target,
        device="cuda",
        precision=options.precision,
        batch=options.opt_batch,
        model=GENERATOR,
        generator=bundle.files[GENERATOR].sha256,
        lowerings=_lowerings(options.precision),
        built_for={
            "processor": "no GPU: built without one" if here is None else here.name,
            "isa": [],
            "runtime": f"{target} {built.record.version}",
            "threads": 0,
        },
        speedup=None,
        speedup_at_1=None,
        gate={"passed": None, "why": NOT_MEASURED},
        kernels={"inspected": built.record.inspected},
        table=(),
    )


def _gpu_here() -> Gpu | None:
    try:
        return gpu(0)
    except BackendUnavailable:
        return None  # TensorRT-RTX builds without one; TensorRT reports that it cannot
