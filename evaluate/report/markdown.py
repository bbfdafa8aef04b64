"""The report as GitHub-flavoured Markdown, for the summary of a CI job."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterator, Sequence

from gen_engine.engine.base import text
from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.report.headline import Headline, headline, rounded, shown, value_text
from gen_engine.evaluate.report.page import BETTER, SECTIONS, by_reason
from gen_engine.evaluate.report.report import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+.!|~>:@-])")
"""Punctuation with a meaning in Markdown, and what makes a link of an address by itself."""


def render(report: Report) -> str:
    """Return headline figures, a table for each question, and the conditions; figures of groups are in the page."""
    lines = [f"# Evaluation of {escaped(report.sides[0].source)}", ""]
    sizes = (f"{side.role} {escaped(side.source)}, {side.rows:,} rows" for side in report.sides)
    lines += [*(f"- {one}" for one in sizes), *(f"- {escaped(note)}" for note in report.notes), ""]
    headlines = headline(report)
    for one in headlines:
        beside = f"; {escaped(one.beside)}" if one.beside else ""
        lines.append(f"- **{escaped(one.value)}** {escaped(one.title)}{beside}")
    for question, title, _ in SECTIONS:
        figures = [one for one in report.figures if one.question == question and one.group is None]
        if figures:
            lines += ["", f"## {title}", "", *_section(figures)]
    groups = sum(one.group is not None for one in report.figures)
    if groups:
        lines += ["", f"{groups:,} figures by class, column or pair are in the page and in `report.json`."]
    return "\n".join([*lines, *_conditions(report, headlines)]) + "\n"


def _section(figures: Sequence[Figure]) -> Iterator[str]:
    computed = [one for one in figures if one.value is not None]
    if computed:
        yield "| figure | value | floor | ceiling | reading |"
        yield "|:---|---:|---:|---:|:---|"
    for one in computed:
        floor, ceiling = ("–" if other is None else rounded(other.value) for other in (one.floor, one.ceiling))
        reading = BETTER[one.better] + (f"; {one.against_ceiling} the ceiling" if one.against_ceiling else "")
        yield f"| {_code(one.name)} | {escaped(value_text(one))} | {floor} | {ceiling} | {reading} |"
    missing = by_reason(figures)
    if missing:
        yield from ([""] if computed else [])
        yield "Not computed:"
        yield ""
    for reason, ones in missing:
        yield f"- {', '.join(_code(one.name) for one in ones)}: {escaped(reason)}"


def _conditions(report: Report, headlines: Sequence[Headline]) -> Iterator[str]:
    """Yield what the figures depend on, folded."""
    budget = ", ".join(
        f"{name.replace('_', ' ')} {shown(size)}" for name, size in dataclasses.asdict(report.budget).items()
    )
    yield from ("", "<details><summary>Conditions</summary>", "")
    yield f"- gen-engine {escaped(report.version)}, seed {report.seed}, features by {escaped(report.extractor)}"
    yield f"- budget: {budget}"
    for one in headlines:
        if one.conditions:
            yield f"- {_code(one.figure.name)}: {escaped(one.conditions)}"
    yield from ("", "</details>")


def escaped(given: str) -> str:
    """Return text that Markdown shows as it is, on one line: no markup, HTML or table cell of its own."""
    return html.escape(_SPECIAL.sub(r"\\\1", text.shown(given)), quote=False)


def _code(name: str) -> str:
    """Return a name in the type of code; between backticks, a pipe or a backtick would end it."""
    return f"<code>{escaped(name)}</code>"
