"""The table and the chart of ``make peers``, from its record alone."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers import PEERS, STACKS

COMPILED, SAMPLE, LIMIT = "gen-engine compile", "gen-engine sample", "limit"
BASE = next(iter(PEERS))
"""The peer whose speed is 1 on the chart's axis."""

_SPREAD = (5, 95)
"""Percentiles of the rounds at the ends of the whiskers."""


def speedups(row: dict[str, Any], peer: str) -> list[float]:
    """Return our speedup over a peer, one ratio per round; empty if the peer was left out."""
    rounds, own = (row["datasets"], SAMPLE) if peer in STACKS else (row["rounds"], COMPILED)
    return [a / b for a, b in zip(rounds[own], rounds[peer], strict=True)] if peer in rounds else []


def shares(row: dict[str, Any], what: str) -> list[float]:
    """Return the share of the limit that was reached, one figure per round."""
    return [rate * row["flops"] / peak for rate, peak in zip(row["rounds"][what], row["rounds"][LIMIT], strict=True)]


def table(record: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the Markdown table."""
    peers = (*PEERS, *STACKS)
    columns = ("generator", "samples/s", *(f"÷ {peer}" for peer in peers), "share of peak", "latency at 1")
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for row in record["generators"]:
        of_peers = [speedups(row, peer) for peer in peers]
        at_1 = row["latency_at_1_over_onnxruntime"]
        cells = [
            row["generator"],
            f"{statistics.median(row['rounds'][COMPILED]):,.0f}",
            *(f"{statistics.median(ratios):.2f}" if ratios else "left out" for ratios in of_peers),
            f"{statistics.median(shares(row, COMPILED)):.0%} of {row['limit']}",
            "" if at_1 is None else f"{at_1:.2f}",
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield caption(record)


def caption(record: dict[str, Any]) -> str:
    """Return machine, versions and date on one line."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    units = "AMX" if "amx_bf16" in record["isa"] else "AVX-512" if "avx512f" in record["isa"] else "no AVX-512"
    return f"{record['processor']}, {units}, {record['threads']} threads; {versions}; {record['date']}"


def draw_chart(record: dict[str, Any], path: Path) -> None:
    """Draw a panel per generator: speedups over :data:`BASE` with whiskers, shares of the peak, requirements."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = record["generators"]
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(max(9, 4.6 * columns), 2.75 * lines + 0.9), squeeze=False, layout="constrained"
    )
    for panel in axes.flat[len(rows) :]:
        panel.set_axis_off()
    for panel, row in zip(axes.flat, rows, strict=False):
        _draw_panel(panel, row)
    figure.suptitle("Samples per second, relative to ONNX Runtime on the graph as exported", fontweight="bold")
    foot = textwrap.fill(_foot(record), round(16 * figure.get_figwidth()))
    figure.supxlabel(foot, fontsize=8, color="#555555")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


_OURS, _THEIRS, _MARKER = "#c8501e", "#8da3b8", "#222222"


def _draw_panel(panel: Any, row: dict[str, Any]) -> None:
    names = [what for what in (*PEERS, COMPILED) if what in row["rounds"]]
    base = np.array(row["rounds"][BASE if BASE in names else COMPILED])
    ratios = [np.array(row["rounds"][what]) / base for what in names]
    middles = np.array([np.median(of_peer) for of_peer in ratios])
    low, high = (np.array([np.percentile(of_peer, percent) for of_peer in ratios]) for percent in _SPREAD)
    places = np.arange(len(names))
    panel.barh(places, middles, color=[_OURS if what == COMPILED else _THEIRS for what in names], height=0.72)
    panel.errorbar(
        middles,
        places,
        xerr=np.maximum(0, [middles - low, high - middles]),
        fmt="none",
        ecolor=_MARKER,
        capsize=2,
        lw=1,
    )
    required = [minimum * middles[names.index(peer)] for peer, minimum in row["required"].items() if peer in names]
    for mark in required:
        panel.plot([mark] * 2, [places[-1] - 0.46, places[-1] + 0.46], color=_MARKER, lw=2, ls=":")
    for place, middle, top, what in zip(places, middles, high, names, strict=True):
        end = max(middle, top, *required) if what == COMPILED else max(middle, top)
        panel.text(
            end, place, f"  {middle:.1f} × · {statistics.median(shares(row, what)):.0%}", va="center", fontsize=8
        )
    panel.set_yticks(places, names, fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.set_xlim(0, 1.45 * max(middles.max(), high.max(), *required))
    speed = statistics.median(row["rounds"][COMPILED])
    panel.set_title(f"{row['generator']}: {speed:,.0f} samples/s compiled", fontsize=10, loc="left")
    panel.spines[["top", "right"]].set_visible(False)


def _foot(record: dict[str, Any]) -> str:
    limits = " and ".join(sorted({row["limit"] for row in record["generators"]}))
    return (
        f"Percentages: share of the {limits} (fewer operations can exceed 100 %). Whiskers: {_SPREAD[0]}th to "
        f"{_SPREAD[1]}th percentile of the rounds. Dotted: requirement of the compiled generator. {caption(record)}"
    )
