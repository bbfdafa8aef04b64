"""Evaluation: is a synthetic dataset useful, faithful and private, by comparison with real data?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gen_engine.evaluate.report.report import Report as Report
    from gen_engine.evaluate.run import evaluate as evaluate

__all__ = ["Report", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import a name when it is used."""
    if name == "evaluate":
        from gen_engine.evaluate.run import evaluate

        return evaluate
    if name == "Report":
        from gen_engine.evaluate.report.report import Report

        return Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
