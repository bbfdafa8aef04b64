"""A gate: thresholds on the figures of a report, in a TOML file.

::

    [[require]]
    figure = "tstr_over_trtr.cnn.accuracy"
    at_least = 0.95

    [[require]]
    figure = "tstr.cnn.recall"
    group = "*"                     # every class; or the name of one
    at_least = 0.6

    [[require]]
    figure = "membership.worst.auc"
    at_most = 0.55

What is compared is the bound of the interval that claims least: the lower one for ``at_least``, the upper one for
``at_most``. A figure that is missing or was not computed fails.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gen_engine.engine.base.files import read_text
from gen_engine.engine.errors import EngineError, RequestError
from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.report.headline import rounded, value_text
from gen_engine.evaluate.report.report import Report

_KEYS = ("figure", "group", "at_least", "at_most")


class GateFailed(EngineError):
    """An evaluation does not meet its gate."""

    exit_code = 6

    def __init__(self, failures: tuple[str, ...]) -> None:
        count = f"{len(failures)} requirement{'s' * (len(failures) != 1)} of the gate failed"
        super().__init__("\n  ".join([f"{count}:", *failures]))
        self.failures = failures


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A threshold on a figure."""

    figure: str
    group: str | None
    """The group that it is of; ``*`` for every one; None for the whole dataset."""

    at_least: float | None
    at_most: float | None

    def failures(self, report: Report) -> Iterator[str]:
        """Yield a sentence for each figure that fails."""
        found = [one for one in report.figures if _matches(self, one)]
        if not found:
            known = sorted({one.name for one in report.figures})
            near = get_close_matches(self.figure, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near and near[0] != self.figure else ""
            of = f" of group {self.group!r}" if self.group is not None else ""
            yield f"{self.figure}{of}: the report has no such figure{hint}"
        for one in found:
            if one.value is None:
                yield f"{_name(one)}: not computed: {one.not_computed}"
                continue
            low, high = (one.interval.low, one.interval.high) if one.interval else (one.value, one.value)
            if self.at_least is not None and not low >= self.at_least:
                yield f"{_name(one)}: {value_text(one)}: its lower bound is below {rounded(self.at_least)}"
            if self.at_most is not None and not high <= self.at_most:
                yield f"{_name(one)}: {value_text(one)}: its upper bound is above {rounded(self.at_most)}"


@dataclass(frozen=True)
class Gate:
    """Requirements of a report."""

    requirements: tuple[Requirement, ...]

    @classmethod
    def read(cls, path: Path) -> Gate:
        """Read a gate.

        Raises:
            RequestError: it is no TOML, or a requirement is malformed, with what is wrong and where.
            OSError: it cannot be read.
        """
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            document = tomllib.loads(read_text(path))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"gate {path} is no TOML file: {error}") from error
        unknown = sorted(set(document) - {"require"})
        if unknown:
            raise RequestError(f"gate {path}: unknown key {unknown[0]!r}: it holds [[require]] tables alone")
        tables = document.get("require")
        if not isinstance(tables, list) or not tables:
            raise RequestError(f"gate {path} requires nothing: add a [[require]] table with figure and at_least")
        return cls(tuple(_requirement(one, f"gate {path}, [[require]] {at + 1}") for at, one in enumerate(tables)))

    def check(self, report: Report) -> None:
        """Compare a report.

        Raises:
            GateFailed: a requirement is not met, with every one that is not.
        """
        failures = tuple(text for one in self.requirements for text in one.failures(report))
        if failures:
            raise GateFailed(failures)


def _requirement(value: Any, where: str) -> Requirement:
    if not isinstance(value, dict):
        raise RequestError(f"{where}: it is {value!r}, not a table")
    if unknown := sorted(set(value) - set(_KEYS)):
        near = get_close_matches(unknown[0], _KEYS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RequestError(f"{where}: unknown key {unknown[0]!r}: {hint}the keys are {', '.join(_KEYS)}")
    figure, group = value.get("figure"), value.get("group")
    if not isinstance(figure, str) or not figure:
        raise RequestError(f"{where}: figure is {figure!r}: it must be the name of a figure, as in report.json")
    if group is not None and not isinstance(group, str):
        raise RequestError(f"{where}: group is {group!r}: it must be text")
    bounds = {name: _threshold(value.get(name), f"{where}: {name}") for name in ("at_least", "at_most")}
    if all(one is None for one in bounds.values()):
        raise RequestError(f"{where}: {figure} has neither at_least nor at_most")
    return Requirement(figure=figure, group=group, **bounds)


def _threshold(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RequestError(f"{where} is {value!r}: it must be a finite number")
    return float(value)


def _matches(requirement: Requirement, figure: Figure) -> bool:
    if figure.name != requirement.figure:
        return False
    return figure.group is not None if requirement.group == "*" else figure.group == requirement.group


def _name(figure: Figure) -> str:
    return figure.name if figure.group is None else f"{figure.name} of {figure.group!r}"
