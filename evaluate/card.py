"""The headline figures of a report on the cards of a bundle and of a dataset, with their conditions."""

from __future__ import annotations

from typing import Any

from gen_engine.engine.base.digests import canonical_json, sha256_bytes
from gen_engine.engine.identity.bundle import Bundle, with_quality
from gen_engine.evaluate.report.document import to_json
from gen_engine.evaluate.report.headline import headline
from gen_engine.evaluate.report.markdown import escaped
from gen_engine.evaluate.report.report import Report

KEY = "evaluation"
"""Where a bundle keeps the figures among those of its quality."""


def report_id(report: Report) -> str:
    """Return the SHA-256 of a report's document, its identity."""
    return sha256_bytes(canonical_json(to_json(report)))


def quality_of(report: Report) -> dict[str, Any]:
    """Return the headline figures as a bundle records them."""
    sources = {side.role: f"{side.source}, {side.rows:,} rows, BLAKE3 {side.digest[:16]}" for side in report.sides}
    figures = {}
    for one in headline(report):
        figure = one.figure
        figures[figure.name] = {
            "value": figure.value,
            "interval": None if figure.interval is None else [figure.interval.low, figure.interval.high],
            "beside": one.beside,
            "conditions": one.conditions,
        }
    return {"report": report_id(report), "data": sources, "extractor": report.extractor, "figures": figures}


def with_report(bundle: Bundle, report: Report) -> Bundle:
    """Put a report's headline figures on a bundle's card, in place of those of an earlier report.

    Raises:
        OutputError: the bundle cannot be written.
        BundleError: it changed since it was read.
    """
    return with_quality(bundle, dict(bundle.quality) | {KEY: quality_of(report)})


def section(report: Report) -> str:
    """Return a section of a dataset's card, in Markdown."""
    lines = ["## What an evaluation found", "", "| figure | value | beside | conditions |", "|---|---|---|---|"]
    for one in headline(report):
        cells = (one.title, one.value, one.beside, one.conditions)
        lines.append(f"| {' | '.join(escaped(cell) for cell in cells)} |")
    sides = "; ".join(f"{side.role} {escaped(side.source)}, {side.rows:,} rows" for side in report.sides)
    return "\n".join([*lines, "", f"Of {sides}. Report `{report_id(report)[:16]}`."]) + "\n"
