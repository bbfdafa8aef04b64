"""The few figures that say most, with their conditions: for the top of a report, and for cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.report.report import Report

_NAMES: Final = (
    ("tstr_over_trtr.cnn.accuracy", "usefulness, as a share of real data's"),
    ("tstr_over_trtr.trees.auc", "usefulness, as a share of real data's"),
    ("tstr_over_trtr.trees.r2", "usefulness, as a share of real data's"),
    ("tstr.cnn.accuracy", "accuracy, trained on synthetic rows"),
    ("tstr.trees.auc", "AUC, trained on synthetic rows"),
    ("frechet", "Fréchet distance"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("columns.shape", "shapes of the columns"),
    ("two-sample.logistic.auc", "told apart from real rows by a linear model (AUC)"),
    ("two-sample.trees.auc", "told apart from real rows by trees (AUC)"),
    ("membership.worst.auc", "best membership attack (AUC)"),
    ("copies.exact", "exact copies of training rows"),
)


@dataclass(frozen=True)
class Headline:
    """One figure in words."""

    figure: Figure
    title: str

    @property
    def value(self) -> str:
        """The value with its interval, such as ``0.962 (0.955 to 0.969)``."""
        return value_text(self.figure)

    @property
    def beside(self) -> str:
        """Its ceiling, such as ``0.537 for test against train``; empty without one."""
        ceiling = self.figure.ceiling
        return "" if ceiling is None else f"{rounded(ceiling.value)} for {ceiling.what}"

    @property
    def conditions(self) -> str:
        """What it depends on, on one line."""
        return ", ".join(f"{name} {shown(value)}" for name, value in sorted(self.figure.conditions.items()))


def headline(report: Report) -> tuple[Headline, ...]:
    """Return the report's headline figures; those that were not computed are left to the tables."""
    figures = {figure.name: figure for figure in report.figures if figure.group is None and figure.value is not None}
    return tuple(Headline(figures[name], title) for name, title in _NAMES if name in figures)


def value_text(figure: Figure) -> str:
    """Return a figure's value with its interval."""
    if figure.value is None:
        return f"not computed: {figure.not_computed}"
    if figure.interval is None:
        return rounded(figure.value)
    return f"{rounded(figure.value)} ({rounded(figure.interval.low)} to {rounded(figure.interval.high)})"


def rounded(value: float) -> str:
    """Return a number with four significant digits, and no more than that of places behind the point."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 4
        return f"{value:,.{digits}f}"
    return f"{value:.2e}"


def shown(value: object) -> str:
    """Return a condition's value as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else rounded(value)
