"""Measuring a bundle: beside another one in the same run, or beside the machine itself, for a later run to compare."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gen_engine.engine.base.diff import differences
from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.errors import RecordError, RequestError, WrongSamples
from gen_engine.engine.measure.calibration import available, kernels
from gen_engine.engine.measure.guard import TARGET, Baseline, Decision, Rounds, Series, guard
from gen_engine.engine.measure.latency import LOAD, Latency, back_to_back, steady_load
from gen_engine.engine.measure.machine import Others, fingerprint
from gen_engine.engine.measure.record import Record
from gen_engine.engine.measure.rounds import Turns
from gen_engine.engine.measure.statistics import LOOKS, estimate
from gen_engine.engine.measure.subject import Subject

PEER = "peer"
"""The other one of a pair, among those that take part in rounds."""

DRIFT = 0.015
"""Standard error of what differs between two runs and the calibration workloads do not follow, as a logarithm. Within a
run it cannot be seen. benchmarks/guard_trials.py measures it: the spread of the ratios of its calibrated A/A trials."""

PRECISE = 0.003
"""A record is precise enough at this standard error: little beside :data:`DRIFT`."""

LATENCY_BATCHES = (1, 8)


def against(subject: Subject, other: Subject, *, threshold: float, limit_s: float) -> tuple[Decision, Series]:
    """Time two generators in turns until it is sure whether the first is slower than the threshold times the second."""
    series = Series(weights={PEER: 1.0})
    with _closing({TARGET: subject.runner(), PEER: other.runner()}) as members:
        rounds = Rounds(members, Others())
        wall = "cpu" not in (subject.backend.device, other.backend.device)
        decision = guard(rounds.take, series, threshold=threshold, limit_s=limit_s, wall_only=wall)
    return decision, series


def measure(subject: Subject, *, limit_s: float, clock: Callable[[], float] = time.monotonic) -> Record:
    """Time a generator in turns with the calibration workloads, until its speed is well known or the time is over."""
    names = available()
    series = Series(weights=mix(names))
    with _calibrated(subject, names) as rounds:
        began = clock()
        for look in LOOKS:
            while len(series.rounds) < look and (clock() - began < limit_s or len(series.rounds) < LOOKS[0]):
                series.rounds.append(rounds.take())
            if len(series.rounds) < look or estimate(series.processor()).error < PRECISE:
                break
    return Record(
        bundle={
            "name": subject.bundle.name,
            "digest": subject.bundle.digest,
            "generator": subject.bundle.generator_id,
        },
        timed=subject.to_json(),
        samples=subject.samples,
        machine=fingerprint(),
        series=series,
        made=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def compare(subject: Subject, record: Record, *, threshold: float, limit_s: float) -> tuple[Decision, Series]:
    """Time a generator in turns with the record's calibration workloads, and compare it with the record.

    Raises:
        BackendUnavailable: a workload of the record needs what this machine lacks.
    """
    before = record.series
    series = Series(weights=before.weights)
    elapsed = before.elapsed()
    baseline = Baseline(
        processor=estimate(before.processor()),
        elapsed=estimate(elapsed) if len(elapsed) >= LOOKS[0] else None,
        drift=DRIFT,
    )
    with _calibrated(subject, record.peers) as rounds:
        decision = guard(rounds.take, series, threshold=threshold, limit_s=limit_s, baseline=baseline)
    return decision, series


def mix(names: tuple[str, ...]) -> dict[str, float]:
    """Return the weights that speeds are told in: the geometric mean of all matrix products that the machine has.

    Of 42 runs of three generators beside other work, speeds followed this mean better than most single workloads, their
    own precision's included, and better than none; copies and small kernels alone followed less.
    """
    products = [name for name in names if name.startswith("matmul")]
    return {name: 1 / len(products) for name in products}


def refuse_other(
    path: Path, record: Record, subject: Subject, *, other_machine: bool, other_generator: bool
) -> list[str]:
    """Refuse a record that says nothing of this generator on this machine; return what else differs, in words.

    Raises:
        RecordError: it is of another machine or generator, and that was not allowed.
        WrongSamples: the very same graph made other samples then.
    """
    said = []
    machine = differences(record.machine, fingerprint())
    if machine:
        text = "; ".join(f"{field}: {then!r} there, {now!r} here" for field, then, now in machine)
        if not other_machine:
            raise RecordError(
                f"baseline {path} is of another machine ({text}). Speeds of two machines say nothing of a regression; "
                "measure it here with --save, or compare them with --allow-other-machine"
            )
        said.append(f"the baseline is of another machine: {text}")
    if record.bundle["generator"] != subject.bundle.generator_id:
        if not other_generator:
            raise RecordError(
                f"baseline {path} is of another generator ({record.bundle['name']}, "
                f"{record.bundle['generator'][:12]}…; this is {subject.bundle.name}, "
                f"{subject.bundle.generator_id[:12]}…); measure this one with --save, or compare them with "
                "--allow-other-generator"
            )
        said.append(f"the baseline is of another generator, {record.bundle['name']}")
    form = differences(record.timed, subject.to_json())
    if not (form or machine or said) and record.samples != subject.samples:
        raise WrongSamples(
            f"{subject} makes other samples than when {path} was measured, of the same graph on the same machine: "
            "it is not timed. Look for a fault with 'gen-engine verify --regenerate'"
        )
    return said + [f"{field} was {then!r}, is {now!r}" for field, then, now in form if field != "graph"]


def refuse_other_generator(subject: Subject, other: Subject, *, allowed: bool) -> list[str]:
    """Refuse a pair of different generators unless that is allowed; return what is to be said of it.

    Raises:
        RequestError: they differ, and that was not allowed.
    """
    if subject.bundle.generator_id == other.bundle.generator_id:
        return []
    if not allowed:
        raise RequestError(
            f"{subject.bundle.path} and {other.bundle.path} are different generators; compare their speeds with "
            "--allow-other-generator"
        )
    return ["the two are different generators"]


def latencies(open_at: Callable[[int], Subject], batches: tuple[int, ...], *, seconds: float) -> list[Latency]:
    """Measure one lane's calls at each batch, back to back and then under steady load.

    Args:
        open_at: opens the generator at a batch.
        batches: samples a call.
        seconds: for all of it.
    """
    share = seconds / (2 * len(batches))
    found = []
    for batch in batches:
        with contextlib.closing(open_at(batch).caller()) as one:
            one.warm_up()
            close = back_to_back(one.call, batch=batch, seconds=share)
            steady = steady_load(one.call, batch=batch, rate=LOAD * close.rate, seconds=share)
        found += [close, steady]
    return found


@contextlib.contextmanager
def _calibrated(subject: Subject, names: tuple[str, ...]) -> Iterator[Rounds]:
    if subject.backend.device != "cpu":
        raise RequestError(
            f"device {subject.backend.device!r}: calibration runs on the processor and says nothing of a GPU; "
            "compare two bundles with --against"
        )
    with _closing({TARGET: subject.runner(), **kernels(names, threads=usable_cpus())}) as members:
        yield Rounds(members, Others())


@contextlib.contextmanager
def _closing(members: Mapping[str, Turns]) -> Iterator[Mapping[str, Turns]]:
    """Close all that take turns, at the end."""
    try:
        yield members
    finally:
        for member in members.values():
            member.close()
