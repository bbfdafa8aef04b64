"""A bundle to its fastest faithful form on this machine: lowering × precision × runtime × batch, timed and gated.

Nothing is decided by rule, since what wins differs by machine and by generator. Every candidate is opened in the very
backend that sampling uses and timed in rounds that take turns with the others, so that a machine that slows down for a
while slows all of them. The fastest one that passes the gate is kept, with the table of all that were tried.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gen_engine.engine.backends import ENGINES, open_backend, runtime_version
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.backends.cuda import gpu
from gen_engine.engine.base.processor import isa, processor_name, usable_cpus
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.engine.identity.bundle import GENERATOR, PIXELS_OUTPUT, Bundle, refuse_existing
from gen_engine.engine.identity.runtime import DEFAULT_BATCH, Runtime
from gen_engine.engine.identity.variants import Graph, Variant, add_variant, canonical_graph
from gen_engine.engine.measure.rounds import Runner, relative_speeds
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import open_job
from gen_engine.export.compile.candidates import (
    RECIPES,
    Candidate,
    Options,
    batches_of,
    calibration,
    first_batch,
    graphs_of,
)
from gen_engine.export.compile.gate import LIMITS, ColumnComparison, Comparison, Limits, compare, compare_columns
from gen_engine.export.compile.kernels import kernels_of
from gen_engine.export.compile.race import NOT_REACHED, SLOWER, Race, Rung, successive_halving
from gen_engine.export.compile.tensorrt import compile_engine
from gen_engine.export.errors import GateError

_EQUAL = 0.98
"""Speeds above this share of the fastest are equal within the noise: then the smaller batch wins."""

_SEARCH = 0.8
"""Share of the budget for the search; the gate and one sample's latency take the rest."""

_GATE_SEED = 2**63 + 11
"""Seed of the gate's samples: one that datasets and the calibration of int8 are unlikely to use."""

_GATE_SAMPLES = 512
_GATE_ROWS = 20_000
"""Rows of a table: a share of 1 in 10,000 values is told from none."""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """The result of compiling."""

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
        progress: called with a sentence for each step.

    Raises:
        RequestError: the options do not go together, or the generator makes several fields and no table.
        BackendUnavailable: no runtime here can run, or build, what was requested.
        GateError: candidates ran, and none was both faithful and wanted. Nothing is written.
        OutputError: the bundle cannot be written, or ``out`` exists.
    """
    if out is not None:
        refuse_existing(out, overwrite=None)  # before the work, not after it
    if not bundle.is_table and [output.tensor for output in bundle.outputs] != [PIXELS_OUTPUT]:
        names = ", ".join(output.name for output in bundle.outputs[:8])
        raise RequestError(
            f"bundle {bundle.name}: its fields ({names}) are outputs that 'compile' cannot compare with the original "
            "yet; sample it as it is"
        )
    if options.target in ENGINES:
        compiled, variant = compile_engine(
            bundle,
            target=options.target,
            precision=options.precision,
            max_batch=options.max_batch,
            calibration=calibration(bundle),
            out=out,
            progress=progress,
        )
        return Compiled(bundle=compiled, variant=variant, table=())
    canonical = Runtime(backend="onnxruntime", precision="fp32")
    open_job(SampleRequest(count=1, runtime=canonical), bundle)  # refuses what no job would run
    search = _Search(bundle, options, progress)
    order, table = search.run()
    kept = _gate(bundle, order, options, progress)
    variant = search.record(kept, table)
    files = {variant.model: kept.graph.onnx}
    return Compiled(bundle=add_variant(bundle, variant, files, out=out), variant=variant, table=tuple(table))


class _Search:
    """The candidates of a race, and the record of the winner."""

    def __init__(self, bundle: Bundle, options: Options, progress: Callable[[str], None]) -> None:
        self._bundle, self._options, self._progress = bundle, options, progress
        self._seconds = _SEARCH * options.budget
        self._canonical = canonical_graph(bundle)
        self._batch = first_batch(bundle, options)

    def run(self) -> tuple[list[Candidate], list[Candidate]]:
        """Race; return the candidates that may be kept, the best first, and the table of all."""
        peer = self._runner(self._backend("onnxruntime", self._canonical, self._batch))  # as it was exported
        with Race(peer, self._open, seconds=self._seconds, on_progress=self._progress) as race:
            successive_halving(race, self._rungs(race))
            return _ranked(race.leaders(), race.table), race.table

    def _rungs(self, race: Race) -> Iterator[Rung]:
        """Yield a rung per runtime and precision, two for other batches of the leaders, and a longer one for the last.

        Each distinct graph is timed at one batch first.
        """
        refused: list[str] = []
        graphs = graphs_of(self._bundle, self._options, refused.append)
        short = 0.1 * self._seconds
        for _, group in itertools.groupby(graphs, key=lambda entry: entry[:2]):
            yield Rung(entrants=map(self._candidate, group), closes=0.5, seconds=short, keep=3)
        if not race.leaders():
            reasons = refused + [f"{one}: {one.left}" for one in race.table if one.left]
            raise BackendUnavailable("no candidate runs here. " + "; ".join(dict.fromkeys(reasons)))
        for one in race.leaders()[:2] if self._bundle.fixed_batch is None else []:
            batches = (batch for batch in batches_of(self._bundle, self._options) if batch != one.batch)
            others = [dataclasses.replace(one, batch=batch, speedup=None) for batch in batches]
            yield Rung(entrants=others, closes=0.8, seconds=short, keep=3)
        yield Rung(entrants=(), closes=0.0, seconds=2 * short, keep=3)

    def _candidate(self, entry: tuple[str, str, str, Graph]) -> Candidate:
        target, precision, recipe, graph = entry
        return Candidate(target=target, recipe=recipe, precision=precision, batch=self._batch, graph=graph)

    def _open(self, candidate: Candidate) -> Runner:
        return self._runner(self._backend(candidate.target, candidate.graph, candidate.batch))

    def _runner(self, backend: Backend) -> Runner:
        return Runner(backend, self._bundle, lanes=_lanes(self._options), as_job=True)

    def _backend(self, target: str, graph: Graph, batch: int) -> Backend:
        return open_backend(target, self._bundle, graph, device=self._options.device, batch=batch)

    def _speedup_at_1(self, kept: Candidate) -> float:
        with (
            contextlib.closing(Runner(self._backend(kept.target, kept.graph, 1), self._bundle, lanes=1)) as ours,
            contextlib.closing(Runner(self._backend("onnxruntime", self._canonical, 1), self._bundle, lanes=1)) as peer,
        ):
            (speedup,) = relative_speeds(peer, [ours], seconds=1.0)
        return speedup

    def _kernels(self, kept: Candidate) -> dict[str, int]:
        """Return the kernels that the runtime chose; empty on a GPU, whose choice the profile does not contain."""
        if self._options.device != "cpu":
            return {}
        return kernels_of(self._backend(kept.target, kept.graph, kept.batch), kept.graph, self._bundle)

    def record(self, kept: Candidate, table: Sequence[Candidate]) -> Variant:
        """Return the record of the candidate that is kept."""
        at_1 = None if self._bundle.fixed_batch is not None else self._speedup_at_1(kept)
        assert kept.comparison is not None
        return Variant(
            name=f"{kept.target}-{kept.precision}",
            target=kept.target,
            device=self._options.device.partition(":")[0],
            precision=kept.precision,
            batch=kept.batch,
            model=GENERATOR,
            generator=self._canonical.sha256,
            lowerings=RECIPES[kept.recipe],
            built_for=_built_for(kept, self._options),
            speedup=None if kept.speedup is None else round(kept.speedup, 3),
            speedup_at_1=None if at_1 is None else round(at_1, 3),
            gate=kept.comparison.to_json(),
            kernels=self._kernels(kept),
            table=[candidate.to_json() for candidate in table],
        )


def _ranked(last: list[Candidate], table: Sequence[Candidate]) -> list[Candidate]:
    """Return what may be kept, the best first.

    Of the last ones those near the fastest come first, the smaller batch before the larger. The others follow by their
    speeds in earlier rounds: if no bf16 form is faithful, an fp32 one is. Those that the budget did not reach come
    after them, unmeasured.
    """
    fastest = max(c.speedup or 0.0 for c in last)
    last.sort(key=lambda c: (c.batch, 0) if _near(c, fastest) else (10**9, -(c.speedup or 0.0)))
    for beaten in last:
        beaten.left = SLOWER
    timed = [c for c in table if c.speedup is not None and c not in last]
    untimed = [c for c in table if c.left == NOT_REACHED]
    return [*last, *sorted(timed, key=lambda c: -(c.speedup or 0.0)), *untimed]


def _gate(bundle: Bundle, order: Sequence[Candidate], options: Options, progress: Callable[[str], None]) -> Candidate:
    """Return the first candidate that passes; each is opened again, as the sampler opens it."""
    samples = _GATE_ROWS if bundle.is_table else _GATE_SAMPLES
    canonical = _draw(bundle, "onnxruntime", canonical_graph(bundle), options, DEFAULT_BATCH, 2 * samples)
    failed: dict[str, str] = {}
    for one in order:
        if one.graph.sha256 in failed:  # another batch of the same graph
            one.left = failed[one.graph.sha256]
            continue
        progress(f"comparing {one} with fp32 on {samples:,} fresh samples")
        made = _draw(bundle, one.target, one.graph, options, one.batch, samples)
        one.comparison = _compare(bundle, canonical, made, options.limits or LIMITS[one.precision])
        if one.comparison.passed:
            one.left = None
            return one
        one.left = failed[one.graph.sha256] = "; ".join(one.comparison.failures)
    reasons = "; ".join(dict.fromkeys(f"{one.target} {one.precision}, {one.recipe}: {one.left}" for one in order))
    raise GateError(f"no candidate is faithful enough, so nothing was written. {reasons}")


def _compare(
    bundle: Bundle, canonical: Mapping[str, NDArray[Any]], made: Mapping[str, NDArray[Any]], limits: Limits
) -> Comparison | ColumnComparison:
    """Compare a variant's samples with the first half of fp32's, and the sets with the second."""
    samples = len(made[bundle.output.name])
    if bundle.is_table:
        return compare_columns({name: values[:samples] for name, values in canonical.items()}, made)
    reference = canonical[bundle.output.name]
    return compare(reference[:samples], made[bundle.output.name], reference[samples:], limits)


def _draw(
    bundle: Bundle, target: str, graph: Graph, options: Options, batch: int, samples: int
) -> dict[str, NDArray[Any]]:
    """Return ``samples`` fresh samples as the sampler makes them, through all lanes."""
    backend = open_backend(
        target, bundle, graph, device=options.device, batch=bundle.fixed_batch or min(batch, samples)
    )
    with contextlib.closing(Runner(backend, bundle, lanes=_lanes(options))) as runner:
        return runner.draw(seed=_GATE_SEED, samples=samples)


def _lanes(options: Options) -> int:
    """Return how many lanes a job would have. Those of a GPU take turns there: two keep it busy while one copies."""
    return usable_cpus() if options.device == "cpu" else min(2, usable_cpus())


def _built_for(kept: Candidate, options: Options) -> dict[str, Any]:
    """Return the machine that a variant was measured on."""
    on_gpu = options.device != "cpu"
    return {
        "processor": gpu(0).name if on_gpu else processor_name(),
        "isa": [] if on_gpu else list(isa()),
        "runtime": f"{kept.target} {runtime_version(kept.target)}",
        "threads": _lanes(options) if on_gpu else usable_cpus(),
    }


def _near(candidate: Candidate, fastest: float) -> bool:
    return (candidate.speedup or 0.0) >= _EQUAL * fastest
