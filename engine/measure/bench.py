"""Benchmarks of a bundle: against another bundle in the same run, or relative to the machine, for a later run."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gen_engine.engine.base.diff import differences
from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.errors import RecordError, RequestError, WrongSamples
from gen_engine.engine.measure.calibration import available, open_workloads
from gen_engine.engine.measure.latency import LOAD, Latency, back_to_back, steady_load
from gen_engine.engine.measure.machine import BackgroundLoad, this_machine
from gen_engine.engine.measure.record import BundleIdentity, Record
from gen_engine.engine.measure.rounds import Workload
from gen_engine.engine.measure.sequential_test import (
    PEER,
    TARGET,
    Baseline,
    Comparison,
    Rounds,
    Series,
    sequential_test,
)
from gen_engine.engine.measure.statistics import LOOKS, estimate
from gen_engine.engine.measure.target import BenchTarget

DRIFT = 0.015
"""Standard error, as a logarithm, of the difference between two runs that calibration does not remove. It cannot be
measured within a run; benchmarks/sequential_trials.py measures it as the spread of the calibrated A/A trials."""

PRECISE = 0.003
"""A measurement ends at this standard error, which is small compared with :data:`DRIFT`."""

LATENCY_BATCHES = (1, 8)


def compare_targets(
    target: BenchTarget, other: BenchTarget, *, threshold: float, limit_s: float
) -> tuple[Comparison, Series]:
    """Interleave two targets until it is certain whether the first is slower than the threshold times the second."""
    series = Series(weights={PEER: 1.0})
    with _closing({TARGET: target.runner(), PEER: other.runner()}) as workloads:
        rounds = Rounds(workloads, BackgroundLoad())
        wall_only = "cpu" not in (target.backend.device, other.backend.device)
        comparison = sequential_test(rounds.take, series, threshold=threshold, limit_s=limit_s, wall_only=wall_only)
    return comparison, series


def measure(target: BenchTarget, *, limit_s: float, clock: Callable[[], float] = time.monotonic) -> Record:
    """Interleave a target with the calibration workloads until its speed is known precisely or the time is up."""
    names = available()
    series = Series(weights=calibration_weights(names))
    with _calibrated(target, names) as rounds:
        began = clock()
        for look in LOOKS:
            while len(series.rounds) < look and (clock() - began < limit_s or len(series.rounds) < LOOKS[0]):
                series.rounds.append(rounds.take())
            if len(series.rounds) < look or estimate(series.processor()).error < PRECISE:
                break
    bundle = target.bundle
    return Record(
        bundle=BundleIdentity(name=bundle.name, digest=bundle.digest, generator=bundle.generator_id),
        timed=target.configuration(),
        samples=target.samples,
        machine=this_machine(),
        series=series,
        made=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def compare_with_record(
    target: BenchTarget, record: Record, *, threshold: float, limit_s: float
) -> tuple[Comparison, Series]:
    """Interleave a target with the record's calibration workloads, and compare its speed with the record's.

    Raises:
        BackendUnavailable: this machine cannot run one of the workloads.
    """
    before = record.series
    series = Series(weights=before.weights)
    elapsed = before.elapsed()
    baseline = Baseline(
        processor=estimate(before.processor()),
        elapsed=estimate(elapsed) if len(elapsed) >= LOOKS[0] else None,
        drift=DRIFT,
    )
    with _calibrated(target, record.peers) as rounds:
        comparison = sequential_test(rounds.take, series, threshold=threshold, limit_s=limit_s, baseline=baseline)
    return comparison, series


def calibration_weights(names: tuple[str, ...]) -> dict[str, float]:
    """Return the weights of the workloads that speeds are relative to: the geometric mean of all matrix products.

    In 42 runs of three generators beside other load, speeds correlated with this mean better than with most single
    workloads, including the product in the generator's own precision. Copies and small kernels correlated less.
    """
    products = [name for name in names if name.startswith("matmul")]
    return {name: 1 / len(products) for name in products}


def check_comparable(
    path: Path, record: Record, target: BenchTarget, *, other_machine: bool, other_generator: bool
) -> list[str]:
    """Refuse a record of another machine or generator unless allowed; return notes on all other differences.

    Raises:
        RecordError: it is of another machine or generator, and that was not allowed.
        WrongSamples: the same graph made other samples when the record was measured.
    """
    notes = []
    of_machine = differences(record.machine.to_json(), this_machine().to_json())
    if of_machine:
        text = "; ".join(f"{field}: {then!r} there, {now!r} here" for field, then, now in of_machine)
        if not other_machine:
            raise RecordError(
                f"baseline {path} is of another machine ({text}). Speeds of two machines do not show a regression; "
                "measure it here with --save, or compare them with --allow-other-machine"
            )
        notes.append(f"the baseline is of another machine: {text}")
    if record.bundle.generator != target.bundle.generator_id:
        if not other_generator:
            raise RecordError(
                f"baseline {path} is of another generator ({record.bundle.name}, {record.bundle.generator[:12]}…; "
                f"this is {target.bundle.name}, {target.bundle.generator_id[:12]}…); measure this one with --save, or "
                "compare them with --allow-other-generator"
            )
        notes.append(f"the baseline is of another generator, {record.bundle.name}")
    of_configuration = differences(record.timed.to_json(), target.configuration().to_json())
    if not (of_configuration or notes) and record.samples != target.samples:
        raise WrongSamples(
            f"{target} makes other samples than when {path} was measured, with the same graph on the same machine: "
            "it is not timed. Look for a fault with 'gen-engine verify --regenerate'"
        )
    return notes + [f"{field} was {then!r}, is {now!r}" for field, then, now in of_configuration if field != "graph"]


def check_same_generator(target: BenchTarget, other: BenchTarget, *, other_generator: bool) -> list[str]:
    """Refuse two different generators unless allowed; return notes for the report.

    Raises:
        RequestError: they differ, and that was not allowed.
    """
    if target.bundle.generator_id == other.bundle.generator_id:
        return []
    if not other_generator:
        raise RequestError(
            f"{target.bundle.path} and {other.bundle.path} are different generators; compare their speeds with "
            "--allow-other-generator"
        )
    return ["the two are different generators"]


def latencies(open_at: Callable[[int], BenchTarget], batches: tuple[int, ...], *, seconds: float) -> list[Latency]:
    """Measure the latency of calls on one lane at each batch, back to back and then under steady load.

    Args:
        open_at: opens the target at a batch.
        batches: samples per call.
        seconds: for all of it.
    """
    share = seconds / (2 * len(batches))
    series = []
    for batch in batches:
        with contextlib.closing(open_at(batch).caller()) as caller:
            caller.warm_up()
            unloaded = back_to_back(caller.call, batch=batch, seconds=share)
            loaded = steady_load(caller.call, batch=batch, rate=LOAD * unloaded.rate, seconds=share)
        series += [unloaded, loaded]
    return series


@contextlib.contextmanager
def _calibrated(target: BenchTarget, names: tuple[str, ...]) -> Iterator[Rounds]:
    if target.backend.device != "cpu":
        raise RequestError(
            f"device {target.backend.device!r}: calibration runs on the processor and does not apply to a GPU; "
            "compare two bundles with --against"
        )
    with _closing({TARGET: target.runner(), **open_workloads(names, threads=usable_cpus())}) as workloads:
        yield Rounds(workloads, BackgroundLoad())


@contextlib.contextmanager
def _closing(workloads: Mapping[str, Workload]) -> Iterator[Mapping[str, Workload]]:
    """Close all workloads at the end."""
    try:
        yield workloads
    finally:
        for workload in workloads.values():
            workload.close()
