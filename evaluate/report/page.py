"""The report as one HTML page: nothing in it is loaded, and everything of the user's is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from gen_engine.evaluate.figures import Figure, Question
from gen_engine.evaluate.metrics.membership import THREAT_MODEL
from gen_engine.evaluate.report.document import png
from gen_engine.evaluate.report.glossary import meaning
from gen_engine.evaluate.report.headline import headline, rounded, shown, value_text
from gen_engine.evaluate.report.report import Report

SECTIONS: Final[tuple[tuple[Question, str, str], ...]] = (
    ("useful", "Useful?", "Is a model that learns from the synthetic rows good on real ones?"),
    ("faithful", "Faithful, diverse?", "Are the synthetic rows like the real ones, and as varied?"),
    ("private", "Private?", "Do the synthetic rows give away who was in the training data?"),
)

_WIDTH: Final = 180
_MARGIN: Final = 6


@dataclass(frozen=True)
class Strip:
    """The drawing of a figure on the scale between its floor and its ceiling; horizontal places in user units."""

    value: float
    low: float
    high: float
    floor: float | None
    ceiling: float | None
    alt: str


def render(report: Report) -> str:
    """Return the page as HTML."""
    sections = []
    for question, title, lead in SECTIONS:
        figures = [one for one in report.figures if one.question == question]
        sections.append(
            {
                "id": question,
                "title": title,
                "lead": lead,
                "whole": [one for one in figures if one.group is None and one.value is not None],
                "groups": _grouped([one for one in figures if one.group is not None and one.value is not None]),
                "missing": [one for one in figures if one.value is None],
                "exhibits": [one for one in report.exhibits if _question(report, one.metric) == question],
            }
        )
    page: str = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            report=report,
            sections=sections,
            headlines=headline(report),
            threat_model=THREAT_MODEL,
            level="95 %",
        )
    )
    return page


def strip(figure: Figure) -> Strip | None:
    """Return the drawing of a figure, or None if it has neither a floor nor a ceiling to be seen against."""
    if figure.value is None or (figure.floor is None and figure.ceiling is None):
        return None
    interval = figure.interval
    low, high = (interval.low, interval.high) if interval else (figure.value, figure.value)
    ends = [low, high] + [one.value for one in (figure.floor, figure.ceiling) if one is not None]
    start, stop = min(ends), max(ends)
    scale = (_WIDTH - 2 * _MARGIN) / (stop - start) if stop > start else 0.0

    def place(value: float) -> float:
        return round(_MARGIN + (value - start) * scale, 1)

    references = [("floor", figure.floor), ("ceiling", figure.ceiling)]
    alt = f"{value_text(figure)}" + "".join(f"; {name} {rounded(one.value)}" for name, one in references if one)
    return Strip(
        value=place(figure.value),
        low=place(low),
        high=place(high),
        floor=None if figure.floor is None else place(figure.floor.value),
        ceiling=None if figure.ceiling is None else place(figure.ceiling.value),
        alt=alt,
    )


def _grouped(figures: Sequence[Figure]) -> list[tuple[str, list[Figure]]]:
    """Return figures of groups by their name, in order."""
    found: dict[str, list[Figure]] = {}
    for one in figures:
        found.setdefault(one.name, []).append(one)
    return list(found.items())


def _question(report: Report, metric: str) -> Question | None:
    return next((one.question for one in report.figures if one.metric == metric), None)


def _picture(image: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def _visible(value: object) -> str:
    """Return text with what cannot be seen, or turns what follows around, written out."""
    text = str(value)
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


@cache
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def load(name: str) -> str:
        return files("gen_engine.evaluate.report").joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(load), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "rounded": rounded,
        "shown": shown,
        "value_text": value_text,
        "strip": strip,
        "meaning": meaning,
        "picture": _picture,
        "visible": _visible,
    }
    environment.globals |= {"width": _WIDTH}
    return environment
