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

    [evaluation]                    # how ``sample --gate`` evaluates: options of ``evaluate``
    metrics = ["manifold", "copies", "membership"]
    features = "pca"

What is compared is the bound of the interval that claims least: the lower one for ``at_least``, the upper one for
``at_most``. A figure that is missing or was not computed fails.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from gen_engine.engine.base.files import read_text
from gen_engine.engine.errors import GateFailed, RequestError
from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.report.headline import rounded, value_text
from gen_engine.evaluate.report.report import Report

_KEYS = ("figure", "group", "at_least", "at_most")


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
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Option of ``gen-engine evaluate``, with underscores → its value."""

    @classmethod
    def read(cls, path: Path) -> Gate:
        """Read a gate.

        Raises:
            RequestError: it cannot be read, is no TOML, or is malformed, with what is wrong and where.
        """
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            document = tomllib.loads(read_text(path))
        except OSError as error:
            raise RequestError(f"gate {path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, an overlong integer
            raise RequestError(f"gate {path} is no TOML file: {error}") from error
        unknown = sorted(set(document) - {"require", "evaluation"})
        if unknown:
            raise RequestError(
                f"gate {path}: unknown key {unknown[0]!r}: it holds [[require]] tables, and a table [evaluation]"
            )
        tables = document.get("require")
        if not isinstance(tables, list) or not tables:
            raise RequestError(f"gate {path} requires nothing: add a [[require]] table with figure and at_least")
        requirements = tuple(_requirement(one, f"gate {path}, [[require]] {at + 1}") for at, one in enumerate(tables))
        return cls(requirements, _settings(document.get("evaluation", {}), f"gate {path}, [evaluation]"))

    def check(self, report: Report) -> None:
        """Compare a report.

        Raises:
            GateFailed: a requirement is not met, with every one that is not.
        """
        failures = tuple(text for one in self.requirements for text in one.failures(report))
        if failures:
            count = f"{len(failures)} requirement{'s' * (len(failures) != 1)} of the gate failed"
            raise GateFailed("\n  ".join([f"{count}:", *failures]))


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


def _settings(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{where}: it is {value!r}, not a table")
    found = {}
    for name, one in value.items():
        key = name.replace("-", "_")
        if key not in SETTINGS:
            near = get_close_matches(key, SETTINGS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise RequestError(f"{where}: unknown key {name!r}: {hint}the keys are {', '.join(SETTINGS)}")
        check, what = SETTINGS[key]
        if not check(one):
            raise RequestError(f"{where}: {name} is {one!r}: it must be {what}")
        found[key] = one
    return found


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


SETTINGS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "metrics": (_texts, "a list of names"),
    "features": (lambda value: isinstance(value, str), "text"),
    "target": (lambda value: isinstance(value, str), "the name of a column"),
    "task": (lambda value: value in ("classify", "regress"), "classify or regress"),
    "resize": (_whole, "a number of pixels"),
    "channels": (lambda value: value in ("grey", "rgb"), "grey or rgb"),
    "match_classes": (lambda value: value in ("name", "id"), "name or id"),
    "rename_class": (_texts, 'a list of "SYNTHETIC=REAL"'),
    "rename_column": (_texts, 'a list of "SYNTHETIC=REAL"'),
    "drop": (_texts, "a list of columns"),
    "value_range": (lambda value: isinstance(value, str), "LOW..HIGH"),
    "rows": (_whole, "a number of rows"),
    "seeds": (_whole, "a number of trainings"),
}
"""What ``[evaluation]`` may set: each key's check, and what it must be."""


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
