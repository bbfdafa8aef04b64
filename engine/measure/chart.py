"""The chart of latencies: one percentile curve per series.

The percentile axis is logarithmic towards 100 %, as HdrHistogram plots it: 90 %, 99 % and 99.9 % are equally far apart,
because rare slow calls are what matters to users. The SVG is written directly, so no plotting library is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from gen_engine.engine.measure.latency import Latency

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 66, 50
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The palette of Okabe and Ito, distinguishable with colour-blindness."""

_Scale = Callable[[float], float]
"""A value → its coordinate."""


def latency_svg(series: Sequence[Latency], title: str) -> str:
    """Return the chart as SVG. Every series has at least one call."""
    values = [value * 1e-6 for one in series for _, value in one.histogram.curve()]
    low, high = _decades(min(values), max(values))
    calls = max(one.histogram.count for one in series)
    nines = max(1.0, math.log10(calls))

    def x(share: float) -> float:
        exponent = min(-math.log10(max(1 - share, 0.5 / calls)), nines)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * exponent / nines

    def y(milliseconds: float) -> float:
        fraction = (math.log10(milliseconds) - low) / (high - low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(max(fraction, 0.0), 1.0)

    parts = [*_frame(title, x, y, low, high, nines)]
    for i, one in enumerate(series):
        colour = _COLOURS[i % len(_COLOURS)]
        parts.append(_line(one, colour, x, y))
        name = f"batch {one.batch}, {one.arrivals}"
        left, top = _LEFT + 170 * (i % 4), 40 + 16 * (i // 4)
        parts.append(f'<rect x="{left}" y="{top - 8}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{left + 18}" y="{top - 2}">{escape(name)}</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _decades(low: float, high: float) -> tuple[float, float]:
    """Return the limits of the milliseconds axis as logarithms, at 1, 2 or 5 times a power of ten."""
    ticks = [math.log10(m) + d for d in range(-7, 9) for m in (1, 2, 5)]
    below = max((t for t in ticks if t <= math.log10(max(low, 1e-6)) + 1e-9), default=ticks[0])
    above = min((t for t in ticks if t >= math.log10(max(high, 1e-6)) - 1e-9), default=ticks[-1])
    return (below, above) if above > below else (below - 0.31, above + 0.31)


def _frame(title: str, x: _Scale, y: _Scale, low: float, high: float, nines: float) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>']
    for exponent in range(math.floor(nines + 1e-9) + 1):
        share = 1 - 10.0**-exponent
        at = x(share)
        label = f"{100 * share:.{max(0, exponent - 2)}f} %"
        parts.append(f'<line x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        for m in (1, 2, 5):
            if low - 1e-9 <= exponent + math.log10(m) <= high + 1e-9:
                at = y(m * 10.0**exponent)
                parts.append(f'<line x1="{_LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}" stroke="#ddd"/>')
                parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{m * 10.0**exponent:g}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">share of calls</text>')
    middle = (_TOP + bottom) / 2
    rotated = f'x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})"'
    parts.append(f"<text {rotated}>milliseconds</text>")
    return parts


def _line(one: Latency, colour: str, x: _Scale, y: _Scale) -> str:
    points, previous = [], 0.0
    for share, value in one.histogram.curve():  # a step function
        points += [f"{x(previous):.1f},{y(value * 1e-6):.1f}", f"{x(share):.1f},{y(value * 1e-6):.1f}"]
        previous = share
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
