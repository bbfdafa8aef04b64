"""The report as Markdown, for the summary of a CI job."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.report.headline import headline, rounded, value_text
from gen_engine.evaluate.report.page import SECTIONS
from gen_engine.evaluate.report.report import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+.!|~>-])")


def render(report: Report) -> str:
    """Return headline figures, then a table for each question."""
    lines = [f"# Evaluation of {escaped(report.sides[0].source)}", ""]
    sizes = (f"{side.role} {escaped(side.source)}, {side.rows:,} rows" for side in report.sides)
    lines += [*(f"- {one}" for one in sizes), *(f"- {escaped(note)}" for note in report.notes), ""]
    for one in headline(report):
        beside = f"; {escaped(one.beside)}" if one.beside else ""
        lines.append(f"- **{escaped(one.value)}** {escaped(one.title)}{beside}")
    for question, title, _ in SECTIONS:
        figures = [one for one in report.figures if one.question == question and one.group is None]
        if figures:
            lines += ["", f"## {title}", "", *_table(figures)]
    return "\n".join(lines) + "\n"


def _table(figures: list[Figure]) -> Iterator[str]:
    yield "| figure | value | floor | ceiling |"
    yield "|---|---|---|---|"
    for one in figures:
        floor, ceiling = ("–" if other is None else rounded(other.value) for other in (one.floor, one.ceiling))
        yield f"| `{one.name}` | {escaped(value_text(one))} | {floor} | {ceiling} |"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line: no markup, HTML or table cell of its own."""
    visible = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)
    return html.escape(_SPECIAL.sub(r"\\\1", visible), quote=False)
