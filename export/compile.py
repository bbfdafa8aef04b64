"""A bundle to its fastest faithful form on this machine: lowering × precision × runtime × batch, timed and gated.

Nothing is decided by rule, since what wins differs by machine and by generator. Every candidate is opened in the very
backend that sampling uses and timed in rounds that take turns with the others, so that a machine that slows down for a
while slows all of them. The fastest one that passes the gate is kept, with the table of all that were tried.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import open_backend, runtime_version
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.backends.onnxruntime import CPU_PRECISIONS
from gen_engine.engine.backends.openvino import shared_core
from gen_engine.engine.bundle import GENERATOR, LABELS_INPUT, LATENTS_INPUT, PIXELS_OUTPUT, Bundle
from gen_engine.engine.digests import sha256_bytes
from gen_engine.engine.errors import BackendError, BackendUnavailable, RequestError
from gen_engine.engine.lanes import usable_cpus
from gen_engine.engine.latents import Latents
from gen_engine.engine.processor import isa, processor_name
from gen_engine.engine.request import DEFAULT_BATCH
from gen_engine.engine.variants import Graph, Variant, add_variant, canonical_graph
from gen_engine.export.engine_variant import compile_engine
from gen_engine.export.errors import ExportError, GateError
from gen_engine.export.gate import LIMITS, Limits, Verdict, judge
from gen_engine.export.kernels import kernels_of
from gen_engine.export.lower import lower
from gen_engine.export.precision import PRECISIONS, cast, quantize
from gen_engine.export.rounds import Runner, relative_speeds
from gen_engine.export.to_tensorrt import FLAVOURS

_FOLD = ("batchnorm", "dense")
_COARSE = (*_FOLD, "subpixel", "upsample-conv", "activation-first")
RECIPES: dict[str, tuple[str, ...]] = {
    "as exported": (),
    "folded": _FOLD,
    "sub-pixel": _COARSE,
    "sub-pixel, pixels first": (*_COARSE, "pixels-first"),
    "split, sub-pixel, pixels first": (*_FOLD, "subpixel-split", *_COARSE[2:], "pixels-first"),
    "sub-pixel, thin last, pixels first": (*_COARSE, "thin-last", "pixels-first"),
    "split, sub-pixel, thin last, pixels first": (
        *_FOLD,
        "subpixel-split",
        *_COARSE[2:],
        "thin-last",
        "pixels-first",
    ),
}
"""Sequences of lowerings worth timing. Those that come to the same graph are timed once."""

TARGETS = ("openvino", "onnxruntime")
"""What ``auto`` tries on a processor."""

BATCHES = (10, 25, 50, 100, 200, 500, 1000)
"""All divide the default shard, so that no batch is cut by a shard's edge."""

_LARGEST_BATCH_BYTES = 4 << 20
_EQUAL = 0.98
"""Speeds this near the fastest one's are equal within the noise: then the smaller batch waits less, in less memory."""
_GATE_SEED = 2**63 + 11
"""Samples of the gate: of a sequence that no dataset is likely to hold, nor the calibration of int8."""

_GATE_SAMPLES = 512
_CALIBRATION_SEED = 2**62 + 7
_CALIBRATION_SAMPLES = 256


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to compile."""

    target: str = "auto"
    precision: str = "auto"
    """``auto`` tries what this machine runs and the gate is likely to pass; int8 is asked for by name."""

    device: str = "cpu"
    max_batch: int = BATCHES[-1]
    budget: float = 60.0
    """Seconds to spend, about; candidates that were not reached are in the table as such."""

    limits: Limits | None = None
    """What the gate allows; None for the precision's :data:`gen_engine.export.gate.LIMITS`."""

    def __post_init__(self) -> None:
        if self.target not in ("auto", *TARGETS, *FLAVOURS):
            raise RequestError(f"target {self.target!r}: known are auto, {', '.join((*TARGETS, *FLAVOURS))}")
        known = (*PRECISIONS, "tf32") if self.target in FLAVOURS else PRECISIONS
        if self.precision not in ("auto", *known):
            raise RequestError(f"precision {self.precision!r}: known are auto, {', '.join(known)}")
        if self.max_batch < 1:
            raise RequestError(f"max batch {self.max_batch}: it must be at least 1")
        if not self.budget > 0:
            raise RequestError(f"budget {self.budget:g} s: it must be above 0")


@dataclass(kw_only=True)
class Candidate:
    """One way to run the generator, and what came of it."""

    target: str
    recipe: str
    precision: str
    batch: int
    graph: Graph

    speedup: float | None = None
    """Samples a second over the canonical graph's in ONNX Runtime, of the last rounds it took part in."""

    verdict: Verdict | None = None
    left: str | None = None
    """Why it went no further; None for the one that was kept."""

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
            "gate": None if self.verdict is None else self.verdict.to_json(),
            "left": self.left,
        }


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What compiling found."""

    bundle: Bundle
    variant: Variant
    table: tuple[Candidate, ...]


def compile_bundle(
    bundle: Bundle, options: Options, *, out: Path | None = None, progress: Callable[[str], None] = lambda _: None
) -> Compiled:
    """Find the fastest faithful variant of a bundle for this machine, and keep it in the bundle.

    Args:
        bundle: what to compile.
        options: how.
        out: write a copy of the bundle with the variant there, and leave the bundle as it is.
        progress: hears what is being done, a sentence at a time.

    Raises:
        RequestError: the options do not go together.
        BackendUnavailable: no runtime here can run, or build, what was asked for.
        GateError: candidates ran, and none was both faithful and wanted. Nothing is written.
        OutputError: the bundle cannot be written.
    """
    if options.target in FLAVOURS:
        found, variant = compile_engine(
            bundle,
            target=options.target,
            precision=options.precision,
            max_batch=options.max_batch,
            calibration=_calibration(bundle),
            out=out,
            progress=progress,
        )
        return Compiled(bundle=found, variant=variant, table=())
    with contextlib.ExitStack() as stack:
        search = _Search(bundle, options, stack, progress)
        search.open_candidates()
        search.first_rounds()
        search.batch_rounds()
        kept = _gate(bundle, search.last_rounds(), options, progress)
        variant = search.record(kept)
    files = {variant.model: kept.graph.onnx}
    return Compiled(bundle=add_variant(bundle, variant, files, out=out), variant=variant, table=tuple(search.table))


class _Search:
    """The tournament. Runners are open only while their candidates are in it."""

    def __init__(
        self, bundle: Bundle, options: Options, stack: contextlib.ExitStack, progress: Callable[[str], None]
    ) -> None:
        self.table: list[Candidate] = []
        self._bundle, self._options, self._stack, self._progress = bundle, options, stack, progress
        self._deadline = time.monotonic() + options.budget
        self._canonical = canonical_graph(bundle)
        self._batch = _first_batch(bundle, options)
        # The peer that every speedup is over: the graph as it was exported, in ONNX Runtime.
        self._naive = self._runner("onnxruntime", self._canonical, self._batch)
        self._open: dict[int, Runner] = {}

    def _left_s(self) -> float:
        return self._deadline - time.monotonic()

    def _runner(self, target: str, graph: Graph, batch: int) -> Runner:
        backend = open_backend(target, self._bundle, graph, device=self._options.device, batch=batch)
        return self._stack.enter_context(contextlib.closing(Runner(backend, self._bundle, lanes=usable_cpus())))

    def open_candidates(self) -> None:
        """Make and open one candidate for each distinct graph, precision and target at the first batch."""
        refused: list[str] = []
        for target, precision, recipe, graph in _graphs(self._bundle, self._options, refused.append):
            candidate = Candidate(target=target, recipe=recipe, precision=precision, batch=self._batch, graph=graph)
            self.table.append(candidate)
            if self._left_s() < 0.65 * self._options.budget:
                candidate.left = "the budget did not reach it"
                continue
            self._progress(f"opening {candidate}")
            self._try(candidate)
        if not self._open:
            reasons = refused + [f"{one}: {one.left}" for one in self.table if one.left]
            raise BackendUnavailable("no candidate runs here. " + "; ".join(dict.fromkeys(reasons)))

    def _try(self, candidate: Candidate) -> bool:
        try:
            runner = self._runner(candidate.target, candidate.graph, candidate.batch)
            runner.warm_up()
        except BackendError as error:
            candidate.left = str(error)
            return False
        self._open[id(candidate)] = runner
        return True

    def first_rounds(self) -> None:
        """Time all at one batch; the best three of them go on."""
        self._rounds([c for c in self.table if id(c) in self._open], seconds=0.25 * self._options.budget, keep=3)

    def batch_rounds(self) -> None:
        """Time the best at other batches; the best three of all go on."""
        best = [c for c in self.table if id(c) in self._open]
        for one in best[:2] if self._bundle.fixed_batch is None else []:
            for batch in _batches(self._bundle, self._options):
                if batch != one.batch and self._left_s() > 0.3 * self._options.budget:
                    other = dataclasses.replace(one, batch=batch, speedup=None)
                    self.table.append(other)
                    self._progress(f"opening {other}")
                    self._try(other)
        self._rounds([c for c in self.table if id(c) in self._open], seconds=0.2 * self._options.budget, keep=3)

    def last_rounds(self) -> list[Candidate]:
        """Time the last ones again, longer; return all that were timed, the best first.

        The others follow the last ones by their speeds in earlier rounds: if no bf16 form is faithful, an fp32 one is.
        """
        last = [c for c in self.table if id(c) in self._open]
        self._rounds(last, seconds=0.15 * self._options.budget, keep=len(last))
        fastest = max(c.speedup or 0.0 for c in last)
        last.sort(key=lambda c: (c.batch, 0) if _near(c, fastest) else (10**9, -(c.speedup or 0.0)))
        for beaten in last:
            beaten.left = "slower"
        others = [c for c in self.table if c.speedup is not None and c not in last]
        return last + sorted(others, key=lambda c: -(c.speedup or 0.0))

    def _rounds(self, candidates: Sequence[Candidate], *, seconds: float, keep: int) -> None:
        seconds = max(min(seconds, self._left_s()), 0.5)
        self._progress(f"timing {len(candidates)} candidates for {seconds:.0f} s")
        speeds = relative_speeds(self._naive, [self._open[id(c)] for c in candidates], seconds=seconds)
        for candidate, speed in zip(candidates, speeds, strict=True):
            candidate.speedup = speed
        for slow in sorted(candidates, key=lambda c: -(c.speedup or 0.0))[keep:]:
            slow.left = "slower"
            self._open.pop(id(slow)).close()

    def _opened(self, kept: Candidate, batch: int) -> Backend:
        return open_backend(kept.target, self._bundle, kept.graph, device=self._options.device, batch=batch)

    def _speedup_at_1(self, kept: Candidate) -> float:
        naive = open_backend("onnxruntime", self._bundle, self._canonical, device=self._options.device, batch=1)
        with (
            contextlib.closing(Runner(self._opened(kept, 1), self._bundle, lanes=1)) as ours,
            contextlib.closing(Runner(naive, self._bundle, lanes=1)) as theirs,
        ):
            (speedup,) = relative_speeds(theirs, [ours], seconds=1.0)
        return speedup

    def record(self, kept: Candidate) -> Variant:
        """Return the record of the candidate that is kept."""
        at_1 = None if self._bundle.fixed_batch is not None else self._speedup_at_1(kept)
        assert kept.verdict is not None
        return Variant(
            name=f"{kept.target}-{kept.precision}",
            target=kept.target,
            device=self._options.device.partition(":")[0],
            precision=kept.precision,
            batch=kept.batch,
            model=GENERATOR,
            generator=self._canonical.sha256,
            lowerings=RECIPES[kept.recipe],
            built_for={
                "processor": processor_name(),
                "isa": list(isa()),
                "runtime": f"{kept.target} {runtime_version(kept.target)}",
                "threads": usable_cpus(),
            },
            speedup=None if kept.speedup is None else round(kept.speedup, 3),
            speedup_at_1=None if at_1 is None else round(at_1, 3),
            gate=kept.verdict.to_json(),
            kernels=kernels_of(self._opened(kept, kept.batch), kept.graph, self._bundle),
            table=[candidate.to_json() for candidate in self.table],
        )


def _near(candidate: Candidate, fastest: float) -> bool:
    return (candidate.speedup or 0.0) >= _EQUAL * fastest


def _graphs(bundle: Bundle, options: Options, refused: Callable[[str], None]) -> Iterator[tuple[str, str, str, Graph]]:
    """Yield (target, precision, recipe, graph), the likely best first, each distinct graph once a target."""
    lowered: dict[str, bytes] = {}
    for recipe, names in RECIPES.items():
        model = lower(bundle.load(GENERATOR), names, outputs=[PIXELS_OUTPUT]).model
        if model not in lowered.values():
            lowered[recipe] = model
    targets = TARGETS if options.target == "auto" else (options.target,)
    for precision in ("bf16", "fp16", "fp32") if options.precision == "auto" else (options.precision,):
        for recipe, model in reversed(lowered.items()):
            try:
                typed = quantize(model, _calibration(bundle)) if precision == "int8" else cast(model, precision)
            except ExportError as error:
                refused(f"{recipe} in {precision}: {error}")
                continue
            graph = Graph(
                onnx=typed,
                sha256=sha256_bytes(typed),
                precision=precision,
                origin="candidate",
                batch=bundle.fixed_batch,
            )
            for target in targets:
                if precision in computes(target):
                    yield target, precision, recipe, graph
                else:
                    refused(f"{target} does not compute in {precision} on this processor")


def computes(target: str) -> tuple[str, ...]:
    """Return the precisions that a runtime has kernels for on this processor, by its own word."""
    if target == "onnxruntime":
        return CPU_PRECISIONS
    try:
        capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except BackendUnavailable:
        return ()
    return tuple(name for name in PRECISIONS if name.upper() in capabilities)


def _gate(bundle: Bundle, order: Sequence[Candidate], options: Options, progress: Callable[[str], None]) -> Candidate:
    """Return the first candidate that passes; each is opened anew, as the sampler opens it."""
    canonical = _draw(bundle, "onnxruntime", canonical_graph(bundle), options, DEFAULT_BATCH, 2 * _GATE_SAMPLES)
    reference, other = canonical[:_GATE_SAMPLES], canonical[_GATE_SAMPLES:]
    failed: dict[str, str] = {}
    for one in order:
        if one.graph.sha256 in failed:  # another batch of the same graph
            one.left = failed[one.graph.sha256]
            continue
        progress(f"comparing {one} with fp32 on {_GATE_SAMPLES} fresh samples")
        made = _draw(bundle, one.target, one.graph, options, one.batch, _GATE_SAMPLES)
        one.verdict = judge(reference, made, other, options.limits or LIMITS[one.precision])
        if one.verdict.passed:
            one.left = None
            return one
        one.left = failed[one.graph.sha256] = "; ".join(one.verdict.failures)
    reasons = "; ".join(dict.fromkeys(f"{one.target} {one.precision}, {one.recipe}: {one.left}" for one in order))
    raise GateError(f"no candidate is faithful enough, so nothing was written. {reasons}")


def _draw(bundle: Bundle, target: str, graph: Graph, options: Options, batch: int, samples: int) -> NDArray[Any]:
    """Return ``samples`` fresh samples as the sampler makes them, through all lanes."""
    backend = open_backend(
        target, bundle, graph, device=options.device, batch=bundle.fixed_batch or min(batch, samples)
    )
    with contextlib.closing(Runner(backend, bundle, lanes=usable_cpus())) as runner:
        return runner.draw(seed=_GATE_SEED, samples=samples)


def _calibration(bundle: Bundle) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the graph's inputs, for latents and labels as sampling draws them."""
    batch = bundle.fixed_batch or 32
    latents = Latents(dim=bundle.latent.dim, distribution=bundle.latent.distribution, seed=_CALIBRATION_SEED)
    for start in range(0, _CALIBRATION_SAMPLES, batch):
        feeds: dict[str, NDArray[Any]] = {LATENTS_INPUT: latents.draw(start, start + batch)}
        if bundle.labels is not None:
            feeds[LABELS_INPUT] = np.arange(start, start + batch) % len(bundle.labels.names)
        yield feeds


def _first_batch(bundle: Bundle, options: Options) -> int:
    if bundle.fixed_batch is not None:
        if bundle.fixed_batch > options.max_batch:
            raise RequestError(
                f"max batch {options.max_batch}: bundle {bundle.name} runs at its batch of {bundle.fixed_batch} only"
            )
        return bundle.fixed_batch
    return min(DEFAULT_BATCH, options.max_batch)


def _batches(bundle: Bundle, options: Options) -> list[int]:
    """Return the batches to try: within what was asked for, and small enough for their pixels to stay in caches."""
    most = min(options.max_batch, max(BATCHES[0], _LARGEST_BATCH_BYTES // math.prod(bundle.output.shape)))
    return [batch for batch in BATCHES if batch <= most] or [options.max_batch]
