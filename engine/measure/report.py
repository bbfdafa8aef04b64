"""Reports of measurements: text for the terminal, JSON for scripts, Markdown for pull requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gen_engine.engine.measure.latency import QUANTILES, Latency
from gen_engine.engine.measure.machine import Machine
from gen_engine.engine.measure.sequential_test import PASSED, PEER, REGRESSED, TARGET, Comparison, Round, Series
from gen_engine.engine.measure.statistics import ALPHA, Interval, midmean


def sentence(comparison: Comparison) -> str:
    """Return the outcome in one sentence."""
    threshold = f"{comparison.threshold:g} ×"
    ratio = f"speed ratio {comparison.processor} by processor time"
    if comparison.outcome == REGRESSED and comparison.processor.high >= comparison.threshold:
        return f"regression: speed ratio {comparison.elapsed} by wall-clock time in quiet rounds, below {threshold}"
    if comparison.outcome == REGRESSED:
        return f"regression: {ratio}, certainly below {threshold}"
    if comparison.outcome == PASSED:
        return f"no regression: {ratio}, certainly above {threshold}"
    if comparison.processor.low > comparison.threshold:
        return (
            f"undecided: {ratio}, above {threshold}, but {comparison.elapsed} by wall-clock time; {advice(comparison)}"
        )
    return f"undecided: {ratio}, and {threshold} is within the interval; {advice(comparison)}"


def advice(comparison: Comparison) -> str:
    """Return what would help a run that ended undecided."""
    more_time = f"allow more than {comparison.seconds:.0f} s with --time-limit"
    if comparison.background_load > 0.2:
        load = f"other processes took {comparison.background_load:.0%} of the processors"
        return f"{load}: run it when they are idle, or {more_time}"
    if comparison.processor.low > comparison.threshold:
        return f"run it when the machine is idle, or {more_time}"
    return f"{more_time}, or compare directly with --against"


def lines(comparison: Comparison, series: Series, notes: Sequence[str]) -> list[str]:
    """Return the report for the terminal."""
    rounds = f"{comparison.rounds} rounds in {comparison.seconds:.1f} s, {comparison.quiet_rounds} of them quiet"
    return [
        sentence(comparison),
        f"  by wall-clock time: {_wall_clock(comparison)}",
        f"  {rounds}; other processes took {comparison.background_load:.0%} of the processors",
        *speeds(series.rounds),
        *(f"  note: {note}" for note in notes),
    ]


def _wall_clock(comparison: Comparison) -> str:
    return str(comparison.elapsed) if comparison.elapsed else "not compared, too few quiet rounds"


def speeds(rounds: Sequence[Round]) -> list[str]:
    """Return the speed of each workload by wall-clock time and by processor time, one line each."""
    return [
        f"  {name + ':':<15}{_amount(wall):>8} {'samples' if name in (TARGET, PEER) else 'pieces'}/s, "
        f"{_amount(processor)} per second of processor time"
        for name, (wall, processor) in typical(rounds).items()
    ]


def typical(rounds: Sequence[Round]) -> dict[str, tuple[float, float]]:
    """Return workload → work per second of wall-clock time, and of processor time: the midmean of the rounds."""
    return {
        name: (
            math.exp(float(midmean(np.array([one.elapsed[name] for one in rounds])))),
            math.exp(float(midmean(np.array([one.processor[name] for one in rounds])))),
        )
        for name in rounds[0].elapsed
    }


def comparison_json(comparison: Comparison, series: Series, notes: Sequence[str]) -> dict[str, Any]:
    """Return the report for scripts."""
    return {
        "outcome": comparison.outcome,
        "threshold": comparison.threshold,
        "processor": _interval_json(comparison.processor),
        "elapsed": None if comparison.elapsed is None else _interval_json(comparison.elapsed),
        "rounds": comparison.rounds,
        "quiet_rounds": comparison.quiet_rounds,
        "seconds": round(comparison.seconds, 3),
        "background_load": round(comparison.background_load, 4),
        "speeds": speeds_json(series.rounds),
        "weights": dict(series.weights),
        "notes": list(notes),
    }


def speeds_json(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the speeds of each workload, for scripts."""
    return {
        name: {"per_second": float(f"{wall:.6g}"), "per_processor_second": float(f"{processor:.6g}")}
        for name, (wall, processor) in typical(rounds).items()
    }


def latency_json(series: Sequence[Latency]) -> list[dict[str, Any]]:
    """Return latencies for scripts, in seconds."""
    return [
        {
            "arrivals": one.arrivals,
            "batch": one.batch,
            "calls": one.histogram.count,
            "calls_per_second": round(one.rate, 3),
            **{f"p{100 * share:g}": one.quantile(share) for share in QUANTILES},
            "max": one.histogram.max * 1e-9,
            "jitter": one.jitter,
        }
        for one in series
    ]


def latency_table(series: Sequence[Latency]) -> list[str]:
    """Return latencies as a Markdown table, in milliseconds."""
    heads = ["batch", "arrivals", "calls/s", *(f"p{100 * share:g}" for share in QUANTILES), "max", "jitter", "calls"]
    rows = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for one in series:
        quantiles = [one.quantile(share) for share in QUANTILES]
        figures = ["–" if value is None else f"{1e3 * value:.3f}" for value in quantiles]
        rest = [f"{one.histogram.max * 1e-6:.3f}", f"{1e3 * one.jitter:.3f}", f"{one.histogram.count:,}"]
        rows.append("| " + " | ".join([str(one.batch), one.arrivals, f"{one.rate:,.0f}", *figures, *rest]) + " |")
    return rows


def markdown(title: str, comparison: Comparison, series: Series, machine: Machine, notes: Sequence[str]) -> str:
    """Return the report for a pull request."""
    sign = {PASSED: "✅", REGRESSED: "❌"}.get(comparison.outcome, "❔")
    rows = [
        f"| {name} | {_amount(wall)} | {_amount(processor)} |"
        for name, (wall, processor) in typical(series.rounds).items()
    ]
    return "\n".join(
        [
            f"### {sign} {title}",
            "",
            sentence(comparison) + ".",
            "",
            f"| | ratio [interval over all looks, {1 - ALPHA:.0%}] |",
            "|---|---|",
            f"| by processor time | {comparison.processor} |",
            f"| by wall-clock time | {_wall_clock(comparison)} |",
            "",
            "| | work per second | work per second of processor time |",
            "|---|---|---|",
            *rows,
            "",
            f"{comparison.rounds} rounds in {comparison.seconds:.1f} s; other processes took "
            f"{comparison.background_load:.0%} of the processors. {machine.processor}, {machine.threads} threads, "
            + ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
            + ".",
            *(f"\nNote: {note}." for note in notes),
            "",
        ]
    )


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _interval_json(interval: Interval) -> dict[str, float]:
    return {"low": interval.low, "ratio": interval.ratio, "high": interval.high}
