"""What compiling tries: recipes of lowerings, precisions, runtimes and batches, and the resulting graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import ENGINES
from gen_engine.engine.backends.onnxruntime import CPU_PRECISIONS
from gen_engine.engine.backends.openvino import shared_core
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.engine.identity.bundle import GENERATOR, LABELS_INPUT, LATENTS_INPUT, Bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import DEFAULT_BATCH, TABLE_BATCH
from gen_engine.engine.identity.variants import Graph
from gen_engine.export.compile.gate import ColumnComparison, Comparison, Limits
from gen_engine.export.compile.lower import lower
from gen_engine.export.compile.precision import PRECISIONS, cast, quantize
from gen_engine.export.errors import ExportError

_FOLD = ("batchnorm", "dense")
_COARSE = ("subpixel", "upsample-conv", "activation-first")
_LAST = ("pixels-first", "channels-last")
RECIPES: dict[str, tuple[str, ...]] = {
    "as exported": (),
    "look-ups by Gather": ("look-ups",),
    "folded": _FOLD,
    "sub-pixel": (*_FOLD, *_COARSE),
    "sub-pixel, thin last, pixels first": (*_FOLD, *_COARSE, "thin-last", "pixels-first"),
    "split, sub-pixel, thin last, pixels first": (*_FOLD, "subpixel-split", *_COARSE, "thin-last", "pixels-first"),
    "sub-pixel, channels last": (*_FOLD, *_COARSE, *_LAST),
    "split, sub-pixel, channels last": (*_FOLD, "subpixel-split", *_COARSE, *_LAST),
    "sub-pixel, thin last, channels last": (*_FOLD, *_COARSE, "thin-last", *_LAST),
    "split, sub-pixel, thin last, channels last": (*_FOLD, "subpixel-split", *_COARSE, "thin-last", *_LAST),
}
"""Sequences of lowerings worth timing. Those that result in the same graph are timed once."""

DEVICES = ("cpu", "cuda")

_ON_GPUS = ("fp16", "fp32")
"""Precisions for which ONNX Runtime's CUDA provider has convolutions and matrix products; in bf16 it has few."""

TARGETS = ("openvino", "onnxruntime")
"""What ``auto`` tries on a processor."""

BATCHES = (10, 25, 50, 100, 200, 500, 1000, 2000)
"""All divide the default shard, so that no batch is cut by a shard's edge."""

ROW_BATCHES = (500, 1000, 2000, 5000, 10_000, 20_000)
"""The same of rows of tables."""

_LARGEST_BATCH_BYTES = 4 << 20
_LARGEST_BATCH_BYTES_ON_A_GPU = 64 << 20
_CALIBRATION_SEED = 2**62 + 7
_CALIBRATION_SAMPLES = 256


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to compile."""

    target: str = "auto"
    precision: str = "auto"
    """``auto`` tries what this machine runs and the gate is likely to pass; int8 is tried on request only."""

    device: str = "cpu"
    """One of :data:`DEVICES`; ignored for engines, which are built for a GPU."""

    max_batch: int = ROW_BATCHES[-1]
    """Samples per call; of images at most 2,000 are tried."""

    budget: float = 60.0
    """Seconds to spend, approximately; candidates that were not reached are marked in the table."""

    limits: Limits | None = None
    """What the gate allows; None for the precision's :data:`gen_engine.export.compile.gate.LIMITS`."""

    def __post_init__(self) -> None:
        if self.target not in ("auto", *TARGETS, *ENGINES):
            raise RequestError(f"target {self.target!r}: known are auto, {', '.join((*TARGETS, *ENGINES))}")
        known = (*PRECISIONS, "tf32") if self.target in ENGINES else PRECISIONS
        if self.precision not in ("auto", *known):
            raise RequestError(f"precision {self.precision!r}: known are auto, {', '.join(known)}")
        if self.device not in DEVICES:
            raise RequestError(f"device {self.device!r}: known are {', '.join(DEVICES)}")
        if self.device == "cuda" and self.target not in ("auto", "onnxruntime", *ENGINES):
            raise RequestError(f"target {self.target!r}: it runs on no GPU; use onnxruntime, or --device cpu")
        if self.max_batch < 1:
            raise RequestError(f"max batch {self.max_batch}: it must be at least 1")
        if not self.budget > 0:
            raise RequestError(f"budget {self.budget:g} s: it must be above 0")

    @property
    def targets(self) -> tuple[str, ...]:
        """The runtimes that are tried."""
        if self.target != "auto":
            return (self.target,)
        return TARGETS if self.device == "cpu" else ("onnxruntime",)


@dataclass(kw_only=True)
class Candidate:
    """One way to run the generator, and its result."""

    target: str
    recipe: str
    precision: str
    batch: int
    graph: Graph

    speedup: float | None = None
    """Samples per second relative to the canonical graph in ONNX Runtime, in the last rounds it took part in."""

    comparison: Comparison | ColumnComparison | None = None
    left: str | None = None
    """Why it was rejected; None for the one that was kept."""

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.target} {self.precision}, {self.recipe}, batch {self.batch}"

    def to_json(self) -> dict[str, Any]:
        """Return a row of the table."""
        return {
            "target": self.target,
            "recipe": self.recipe,
            "precision": self.precision,
            "batch": self.batch,
            "speedup": None if self.speedup is None else round(self.speedup, 3),
            "gate": None if self.comparison is None else self.comparison.to_json(),
            "left": self.left,
        }


def graphs_of(
    bundle: Bundle, options: Options, refused: Callable[[str], None]
) -> Iterator[tuple[str, str, str, Graph]]:
    """Yield (target, precision, recipe, graph), the likely best first, each distinct graph once per target."""
    lowered: dict[str, bytes] = {}
    outputs = [output.tensor for output in bundle.outputs]
    for recipe, names in RECIPES.items():
        model = lower(bundle.load(GENERATOR), names, outputs=outputs).model
        if model not in lowered.values():
            lowered[recipe] = model
    targets = options.targets
    for precision in ("bf16", "fp16", "fp32") if options.precision == "auto" else (options.precision,):
        able = [target for target in targets if precision in computes(target, options.device)]
        for target in set(targets) - set(able):
            here = "this processor" if options.device == "cpu" else "a GPU"
            refused(f"{target} does not compute in {precision} on {here}")
        graphs = dict(_typed(bundle, lowered, precision, refused)) if able else {}
        for target in able:
            for recipe, graph in graphs.items():
                yield target, precision, recipe, graph


def _typed(
    bundle: Bundle, lowered: dict[str, bytes], precision: str, refused: Callable[[str], None]
) -> Iterator[tuple[str, Graph]]:
    for recipe, model in reversed(lowered.items()):
        try:
            typed = quantize(model, calibration(bundle)) if precision == "int8" else cast(model, precision)
        except ExportError as error:
            refused(f"{recipe} in {precision}: {error}")
            continue
        digest = sha256_bytes(typed)
        yield (
            recipe,
            Graph(onnx=typed, sha256=digest, precision=precision, origin="candidate", batch=bundle.fixed_batch),
        )


def computes(target: str, device: str = "cpu") -> tuple[str, ...]:
    """Return the precisions that a runtime, as it reports, has kernels for on this processor or on GPUs."""
    if device == "cuda":
        return _ON_GPUS
    if target == "onnxruntime":
        return CPU_PRECISIONS
    try:
        capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except BackendUnavailable:
        return ()
    return tuple(name for name in PRECISIONS if name.upper() in capabilities)


def calibration(bundle: Bundle) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the graph's inputs, for latents and labels as sampling draws them."""
    batch = bundle.fixed_batch or 32
    latents = Latents(dim=bundle.latent.dim, distribution=bundle.latent.distribution, seed=_CALIBRATION_SEED)
    for start in range(0, _CALIBRATION_SAMPLES, batch):
        feeds: dict[str, NDArray[Any]] = {LATENTS_INPUT: latents.draw(start, start + batch)}
        if bundle.labels is not None:
            feeds[LABELS_INPUT] = np.arange(start, start + batch) % len(bundle.labels.names)
        yield feeds


def first_batch(bundle: Bundle, options: Options) -> int:
    """Return the batch at which everything is timed first.

    Raises:
        RequestError: the bundle's fixed batch is larger than requested.
    """
    if bundle.fixed_batch is not None:
        if bundle.fixed_batch > options.max_batch:
            raise RequestError(
                f"max batch {options.max_batch}: bundle {bundle.name} runs at its batch of {bundle.fixed_batch} only"
            )
        return bundle.fixed_batch
    return min(TABLE_BATCH if bundle.is_table else DEFAULT_BATCH, options.max_batch)


def batches_of(bundle: Bundle, options: Options) -> list[int]:
    """Return the batches to try: as requested, and on a processor small enough to stay in its caches."""
    sample = sum(math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in bundle.outputs)
    largest = _LARGEST_BATCH_BYTES if options.device == "cpu" else _LARGEST_BATCH_BYTES_ON_A_GPU
    most = min(options.max_batch, max(BATCHES[0], largest // sample))
    tried = ROW_BATCHES if bundle.is_table else BATCHES
    return [batch for batch in tried if batch <= most] or [options.max_batch]
