"""What was measured, as people, scripts and pull requests read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gen_engine.engine.measure.guard import KEPT, REGRESSED, TARGET, Decision, Round, Series
from gen_engine.engine.measure.latency import QUANTILES, Latency
from gen_engine.engine.measure.statistics import Interval, midmean


def sentence(decision: Decision) -> str:
    """Return the verdict in one sentence."""
    threshold = f"{decision.threshold:g} ×"
    found = f"speed ratio {decision.processor} by processor time"
    if decision.verdict == REGRESSED and decision.processor.high >= decision.threshold:
        return f"regression: {decision.elapsed} by the wall clock while nobody else used the machine, below {threshold}"
    if decision.verdict == REGRESSED:
        return f"regression: {found}, surely below {threshold}"
    if decision.verdict == KEPT:
        return f"no regression: {found}, surely above {threshold}"
    if decision.processor.low > decision.threshold:
        return f"undecided: {found}, above {threshold}, but {decision.elapsed} by the wall clock; {advice(decision)}"
    return f"undecided: {found}, and {threshold} is within it; {advice(decision)}"


def advice(decision: Decision) -> str:
    """Return what would help a run that ended undecided."""
    if decision.others > 0.2:
        return (
            f"other work took {decision.others:.0%} of the processors: run it when they are free, or allow more than "
            f"{decision.seconds:.0f} s with --time-limit"
        )
    if decision.processor.low > decision.threshold:
        return f"run it when the machine is free, or allow more than {decision.seconds:.0f} s with --time-limit"
    return f"allow more than {decision.seconds:.0f} s with --time-limit, or compare directly with --against"


def lines(decision: Decision, series: Series, notes: Sequence[str]) -> list[str]:
    """Return the report for people."""
    wall = str(decision.elapsed) if decision.elapsed else "not judged: the machine was never quiet for long enough"
    rounds = (
        f"  {decision.rounds} rounds in {decision.seconds:.1f} s, {decision.quiet_rounds} of them on a quiet machine; "
        f"other work took {decision.others:.0%} of the processors"
    )
    return [
        sentence(decision),
        f"  by the wall clock: {wall}",
        rounds,
        *speeds(series.rounds),
        *(f"  note: {note}" for note in notes),
    ]


def speeds(rounds: Sequence[Round]) -> list[str]:
    """Return each member's speed, by the wall clock and by processor time."""
    return [
        f"  {name + ':':<15}{_amount(wall):>8} {'samples' if name in (TARGET, 'peer') else 'pieces'}/s, "
        f"{_amount(processor)} a second of processor time"
        for name, (wall, processor) in typical(rounds).items()
    ]


def typical(rounds: Sequence[Round]) -> dict[str, tuple[float, float]]:
    """Return name → work a second by the wall clock, and by processor time: the centre of the rounds."""
    return {
        name: (
            math.exp(float(midmean(np.array([one.elapsed[name] for one in rounds])))),
            math.exp(float(midmean(np.array([one.processor[name] for one in rounds])))),
        )
        for name in rounds[0].elapsed
    }


def decision_json(decision: Decision, series: Series, notes: Sequence[str]) -> dict[str, Any]:
    """Return the report for scripts."""
    return {
        "verdict": decision.verdict,
        "threshold": decision.threshold,
        "processor": _interval_json(decision.processor),
        "elapsed": None if decision.elapsed is None else _interval_json(decision.elapsed),
        "rounds": decision.rounds,
        "quiet_rounds": decision.quiet_rounds,
        "seconds": round(decision.seconds, 3),
        "others": round(decision.others, 4),
        "speeds": speeds_json(series.rounds),
        "weights": dict(series.weights),
        "notes": list(notes),
    }


def speeds_json(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return each member's speeds, for scripts."""
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
        figures = ["–" if found is None else f"{1e3 * found:.3f}" for found in quantiles]
        ends = [f"{one.histogram.max * 1e-6:.3f}", f"{1e3 * one.jitter:.3f}", f"{one.histogram.count:,}"]
        rows.append("| " + " | ".join([str(one.batch), one.arrivals, f"{one.rate:,.0f}", *figures, *ends]) + " |")
    return rows


def markdown(title: str, decision: Decision, series: Series, machine: Mapping[str, Any], notes: Sequence[str]) -> str:
    """Return the report for a pull request."""
    sign = {KEPT: "✅", REGRESSED: "❌"}.get(decision.verdict, "❔")
    rows = [
        f"| {name} | {_amount(wall)} | {_amount(processor)} |"
        for name, (wall, processor) in typical(series.rounds).items()
    ]
    wall = str(decision.elapsed) if decision.elapsed else "not judged: the machine was not quiet"
    return "\n".join(
        [
            f"### {sign} {title}",
            "",
            sentence(decision) + ".",
            "",
            "| | ratio [interval over all looks, 98 %] |",
            "|---|---|",
            f"| by processor time | {decision.processor} |",
            f"| by the wall clock | {wall} |",
            "",
            "| | work a second | work a second of processor time |",
            "|---|---|---|",
            *rows,
            "",
            f"{decision.rounds} rounds in {decision.seconds:.1f} s; other work took {decision.others:.0%} of the "
            f"processors. {machine['processor']}, {machine['threads']} threads, "
            + ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
            + ".",
            *(f"\nNote: {note}." for note in notes),
            "",
        ]
    )


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _interval_json(interval: Interval) -> dict[str, float]:
    return {"low": interval.low, "ratio": interval.ratio, "high": interval.high}
