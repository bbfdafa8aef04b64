"""The rounds of a loop as one HTML page: nothing in it is loaded, and everything of the user's is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gen_engine.engine.base.files import read_bounded
from gen_engine.evaluate.loop.data import LoopData
from gen_engine.evaluate.loop.rounds import Round, best_of, directory
from gen_engine.evaluate.loop.spec import LoopSpec
from gen_engine.evaluate.report.headline import rounded, value_text
from gen_engine.evaluate.report.report import Report
from gen_engine.evaluate.report.templates import templates

WIDTH, HEIGHT, MARGIN = 640, 200, 24
LEFT = 56
"""Room for the values at the chart's left."""

_PREVIEW: Final = 1 << 22
"""Most bytes of a preview that are put into the page."""


@dataclass(frozen=True)
class Mark:
    """A round in the chart, in user units."""

    number: int
    x: float
    y: float
    top: float
    bottom: float
    kept: bool


def render(
    spec: LoopSpec, data: LoopData, rounds: Sequence[Round], out: Path, *, ended: str | None, final: Report | None
) -> str:
    """Return the page.

    Args:
        spec: the loop.
        data: its rows.
        rounds: those that are finished.
        out: the loop's directory, from which previews are read.
        ended: why it ended; None while it goes on.
        final: the best round on the test rows; None if it was not evaluated on them.
    """
    whole = [] if final is None else [one for one in final.figures if one.group is None and one.value is not None]
    environment = templates("gen_engine.evaluate.loop")
    environment.filters |= {"rounded": rounded, "value_text": value_text}
    environment.globals |= {"width": WIDTH, "height": HEIGHT}
    page: str = environment.get_template("page.html.jinja").render(
        spec=spec,
        data=data,
        rounds=rounds,
        best=best_of(rounds),
        ended=ended,
        marks=chart(rounds),
        bounds=bounds(rounds),
        final=whole,
        previews={one.number: _preview(out, one) for one in rounds},
        minutes=sum(one.seconds for one in rounds) / 60,
    )
    return page


def bounds(rounds: Sequence[Round]) -> tuple[float, float] | None:
    """The least and the greatest bound of the figures: the bottom and the top of the chart."""
    judged = [one.judged for one in rounds if one.judged is not None]
    return (min(one.low for one in judged), max(one.high for one in judged)) if judged else None


def chart(rounds: Sequence[Round]) -> list[Mark]:
    """Where the goal's figures are drawn, the greatest bound at the top."""
    judged = [(one, one.judged) for one in rounds if one.judged is not None]
    ends = bounds(rounds)
    if ends is None:
        return []
    low, high = ends
    span = high - low or 1.0
    last = max(one.number for one, _ in judged)

    def place(value: float) -> float:
        return round(MARGIN + (high - value) / span * (HEIGHT - 2 * MARGIN), 1)

    return [
        Mark(
            number=one.number,
            x=round(LEFT + (one.number - 0.5) / last * (WIDTH - LEFT - MARGIN), 1),
            y=place(found.value),
            top=place(found.high),
            bottom=place(found.low),
            kept=one.kept,
        )
        for one, found in judged
    ]


def _preview(out: Path, one: Round) -> str | None:
    """The preview of a round's dataset as a data URL; None if there is none."""
    path = directory(out, one.number) / "dataset" / "preview.png"
    if one.judged is None or not path.exists():
        return None
    return "data:image/png;base64," + base64.b64encode(read_bounded(path, _PREVIEW)).decode()
