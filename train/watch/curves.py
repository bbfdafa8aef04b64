"""The metrics of a run as curves: a line of characters each, or a page of small charts in SVG. Imports no library.

The charts share their x axis, the epochs; each has a y axis of its own, logarithmic where values span more than a
factor of 100. A dot at the right end marks the last value, a dashed line the floor of real rows, a vertical line an
alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from gen_engine.engine.base.durable import temporary_name

FILE = "curves.svg"
BARS = "▁▂▃▄▅▆▇█"
LONGEST = 60
"""Characters of a line."""

COLUMNS, WIDTH, HEIGHT, GAP = 3, 300, 120, 56
"""Charts per row; the size of a plot and the space around it, in pixels."""

LEFT, TOP = 56, 40
SPAN = 100.0
"""Ratio of the values from which on the axis is logarithmic."""

_NO_CURVES = frozenset({"epoch", "step", "samples_per_s"})
_FAULTS = frozenset({"skipped_steps", "saturated", "constant"})
"""Drawn only where there are any."""

_FLOORS = {"frechet": "frechet_floor"}
_BOUND = 1e30
"""Values beyond are drawn as gaps."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric over epochs."""

    name: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]
    """Finite, one for each epoch."""

    floor: float | None = None
    """The same figure of real rows."""


def curves_of(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The metrics that vary, in the order in which they first occur; values that are not finite are left out."""
    names = dict.fromkeys(name for line in lines for name in line)
    curves = []
    for name in names:
        if name in _NO_CURVES or name in _FLOORS.values():
            continue
        kept = [(float(line["epoch"]), float(line[name])) for line in lines if _finite(line.get(name))]
        if not kept or (name in _FAULTS and not any(value for _, value in kept)):
            continue
        floors = [line.get(_FLOORS.get(name, "")) for line in lines]
        known = [float(floor) for floor in floors if floor is not None and _finite(floor)]
        epochs, values = zip(*kept, strict=True)
        curves.append(Curve(name=name, epochs=epochs, values=values, floor=known[-1] if known else None))
    return curves


def sparkline(values: Sequence[float]) -> str:
    """At most 60 characters of eight heights; more values than that are averaged in groups."""
    count = min(LONGEST, len(values))
    groups = [values[at * len(values) // count : (at + 1) * len(values) // count] for at in range(count)]
    means = [sum(group) / len(group) for group in groups]
    low, high = min(means), max(means)
    if high == low:
        return BARS[0] * count
    return "".join(BARS[min(7, int(8 * (mean - low) / (high - low)))] for mean in means)


def write_curves(run_dir: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    """Write RUN/curves.svg, replacing it, and return its path; the same metrics make the same bytes."""
    path = run_dir / FILE
    temporary = path.with_name(f".{temporary_name(path.name)}")
    with temporary.open("xb") as file:
        file.write(svg(lines).encode())
    temporary.replace(path)
    return path


def svg(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page of charts."""
    curves = curves_of(lines)
    alarms = [line["epoch"] for line in lines if line.get("alarms")]
    last = max([float(line["epoch"]) for line in lines], default=1.0)
    rows = -(-len(curves) // COLUMNS)
    width = COLUMNS * (LEFT + WIDTH + 24)
    height = TOP + rows * (HEIGHT + GAP + 16)
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect {size} fill="#ffffff"/>',
    ]
    for index, curve in enumerate(curves):
        left = index % COLUMNS * (LEFT + WIDTH + 24) + LEFT
        top = index // COLUMNS * (HEIGHT + GAP + 16) + TOP
        parts += [f'<g transform="translate({left} {top})">', *_chart(curve, last, alarms), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _chart(curve: Curve, last: float, alarms: Sequence[float]) -> Iterator[str]:
    values = [*curve.values, *([] if curve.floor is None else [curve.floor])]
    low, high = min(values), max(values)
    log = low > 0.0 and high / low > SPAN

    def across(epoch: float) -> str:
        return f"{WIDTH * (epoch - 1.0) / max(last - 1.0, 1.0):.1f}"

    def up(value: float) -> str:
        share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low or 1.0)
        return f"{HEIGHT * (1.0 - share):.1f}"

    title = curve.name + (" (log)" if log else "")
    yield f'<text x="0" y="-10" font-size="13" fill="#1a1a1a">{escape(title)}</text>'
    yield f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#b0b0b0"/>'
    for value, place in ((high, 4), (low, HEIGHT + 2)):
        yield f'<text x="-6" y="{place}" text-anchor="end" fill="#555">{value:.4g}</text>'
        if high == low:
            break
    yield f'<text x="0" y="{HEIGHT + 16}" fill="#555">1</text>'
    yield f'<text x="{WIDTH}" y="{HEIGHT + 16}" text-anchor="end" fill="#555">epoch {last:g}</text>'
    for epoch in alarms:
        yield f'<path d="M{across(epoch)} 0V{HEIGHT}" stroke="#d55e00" stroke-width="1"/>'
    if curve.floor is not None:
        yield f'<path d="M0 {up(curve.floor)}H{WIDTH}" stroke="#009e73" stroke-dasharray="4 3"/>'
    points = [f"{across(epoch)} {up(value)}" for epoch, value in zip(curve.epochs, curve.values, strict=True)]
    yield f'<path d="M{"L".join(points)}" fill="none" stroke="#0072b2" stroke-width="1.5"/>'
    x, y = points[-1].split()
    yield f'<circle cx="{x}" cy="{y}" r="2.5" fill="#0072b2"/>'


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _BOUND
