"""The report as one HTML page: nothing in it is loaded, and everything of the user's is escaped."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from gen_engine.evaluate.exhibit import ShownRow
from gen_engine.evaluate.figures import LEVEL, Figure, Question
from gen_engine.evaluate.metrics.membership import THREAT_MODEL
from gen_engine.evaluate.report.document import png
from gen_engine.evaluate.report.glossary import meaning, topic
from gen_engine.evaluate.report.headline import headline, rounded, shown, value_text
from gen_engine.evaluate.report.report import Report
from gen_engine.evaluate.report.templates import templates, visible

SECTIONS: Final[tuple[tuple[Question, str, str], ...]] = (
    ("useful", "Useful?", "Is a model that learns from the synthetic rows good on real ones?"),
    ("faithful", "Faithful, diverse?", "Are the synthetic rows like the real ones, and as varied?"),
    ("private", "Private?", "Do the synthetic rows give away who was in the training data?"),
)

BETTER: Final = {"higher": "higher is better", "lower": "lower is better", "equal": "nearer is better"}

_WIDTH: Final = 160
_MARGIN: Final = 14


@dataclass(frozen=True)
class Strip:
    """The drawing of a figure beside its floor and its ceiling; horizontal places in user units, 0 to 160."""

    value: float
    low: float
    high: float
    floor: float | None
    ceiling: float | None
    band: tuple[float, float] | None
    """The ceiling's interval: where it begins, and its width."""

    alt: str


def render(report: Report, *, threat_model: str | None = THREAT_MODEL) -> str:
    """Return the page as HTML.

    Args:
        report: what was found.
        threat_model: what attackers are assumed to have, as it stands above the figures of privacy.
    """
    asked = {one.metric: one.question for one in reversed(report.figures)}
    sections = []
    for question, title, lead in SECTIONS:
        figures = [one for one in report.figures if one.question == question]
        whole, groups = ([one for one in figures if (one.group is None) is wanted] for wanted in (True, False))
        sections.append(
            {
                "id": question,
                "title": title,
                "lead": lead,
                "topics": _together((one for one in whole if one.value is not None), _topic),
                "groups": _together((one for one in groups if one.value is not None), lambda one: one.name),
                "missing": by_reason(whole),
                "missing_groups": by_reason(groups),
                "exhibits": [one for one in report.exhibits if asked.get(one.metric) == question],
            }
        )
    page: str = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            report=report,
            sections=sections,
            other_exhibits=[one for one in report.exhibits if one.metric not in asked],
            headlines=headline(report),
            budget=dataclasses.asdict(report.budget),
            threat_model=threat_model,
        )
    )
    return page


def strip(figure: Figure) -> Strip | None:
    """Return the drawing of a figure, or None if it has neither a floor nor a ceiling to be seen against."""
    if figure.value is None or (figure.floor is None and figure.ceiling is None):
        return None
    low, high = (figure.interval.low, figure.interval.high) if figure.interval else (figure.value, figure.value)
    references = [(name, one) for name, one in (("floor", figure.floor), ("ceiling", figure.ceiling)) if one]
    band = None if figure.ceiling is None else figure.ceiling.interval
    ends = [low, figure.value, high, *(one.value for _, one in references)]
    ends += [] if band is None else [band.low, band.high]
    # Halved first: the difference of two finite numbers may be infinite.
    start, span = min(ends) / 2, max(ends) / 2 - min(ends) / 2

    def place(value: float) -> float:
        share = (value / 2 - start) / span if span > 0 else 0.5
        return round(_MARGIN + share * (_WIDTH - 2 * _MARGIN), 1)

    return Strip(
        value=place(figure.value),
        low=place(low),
        high=place(high),
        floor=None if figure.floor is None else place(figure.floor.value),
        ceiling=None if figure.ceiling is None else place(figure.ceiling.value),
        band=None if band is None else (place(band.low), round(place(band.high) - place(band.low), 1)),
        alt="; ".join([value_text(figure), *(f"{name} {rounded(one.value)}" for name, one in references)]),
    )


def by_reason(figures: Iterable[Figure]) -> list[tuple[str, list[Figure]]]:
    """Return the figures that were not computed by the reason, in order."""
    return _together((one for one in figures if one.value is None), lambda one: one.not_computed or "")


def _together(figures: Iterable[Figure], key: Any) -> list[tuple[Any, list[Figure]]]:
    found: dict[Any, list[Figure]] = {}
    for one in figures:
        found.setdefault(key(one), []).append(one)
    return list(found.items())


def _topic(figure: Figure) -> tuple[str, str | None]:
    """Return what stands above figures of one meaning, and the meaning; a plugin's figures stand under its metric."""
    return topic(figure.name) or figure.metric, meaning(figure.name)


def _fields(line: Sequence[ShownRow]) -> list[tuple[str, list[str], bool]]:
    """Return each field's values in a line of rows, and whether they differ; a row without the field has a dash."""
    names = dict.fromkeys(name for row in line for name in row.values)
    values = {name: [row.values.get(name, "–") for row in line] for name in names}
    return [(name, given, len(set(given)) > 1) for name, given in values.items()]


def _picture(image: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def _breakable(name: str) -> Any:
    """Return a figure's name as HTML that breaks after its dots and underscores."""
    from markupsafe import Markup, escape

    escaped = str(escape(visible(name)))
    return Markup(escaped.replace(".", ".<wbr>").replace("_", "_<wbr>"))


@cache
def _environment() -> Any:
    environment = templates("gen_engine.evaluate.report")
    environment.filters |= {
        "rounded": rounded,
        "shown": shown,
        "strip": strip,
        "fields": _fields,
        "picture": _picture,
        "breakable": _breakable,
    }
    environment.globals |= {"width": _WIDTH, "better": BETTER, "level": f"{LEVEL:.0%}"}
    return environment
