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
``at_most``; with both, the whole interval lies between them. A figure that is missing or was not computed fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from gen_engine.engine.errors import GateFailed, RequestError
from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.report.headline import value_text
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
            yield self._absent([one for one in report.figures if one.name == self.figure], report)
        for one in found:
            if one.value is None:
                yield f"{_name(one)}: not computed: {one.not_computed}"
                continue
            low, high = (one.interval.low, one.interval.high) if one.interval else (one.value, one.value)
            lower, upper = ("its lower bound", "its upper bound") if one.interval else ("it", "it")
            if self.at_least is not None and not low >= self.at_least:
                bound, threshold = _apart(low, self.at_least)
                yield f"{_name(one)}: {value_text(one)}: {lower} ({bound}) is below {threshold}"
            if self.at_most is not None and not high <= self.at_most:
                bound, threshold = _apart(high, self.at_most)
                yield f"{_name(one)}: {value_text(one)}: {upper} ({bound}) is above {threshold}"

    def _absent(self, others: list[Figure], report: Report) -> str:
        """Say what there is instead of the figure: others of the name, or the nearest name."""
        groups = [one.group for one in others if one.group is not None]
        if not others:
            near = get_close_matches(self.figure, sorted({one.name for one in report.figures}), n=1)
            fix = f"did you mean {near[0]!r}?" if near else "see the names in report.json"
        elif not groups:
            fix = "it has one of the whole dataset: leave group out"
        elif self.group is None:
            fix = f'it has those of {len(groups)} groups: add group = "*"'
        else:
            near = get_close_matches(self.group, groups, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"its groups are such as {groups[0]!r}"
        of = f" of group {self.group!r}" if self.group is not None else ""
        return f"{self.figure}{of}: the report has no such figure; {fix}"


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
            RequestError: it cannot be read, is no TOML, or is malformed, with all that is wrong and where.
        """
        from gen_engine.engine.base.toml import read_toml

        try:
            document = read_toml(path)
        except OSError as error:
            raise RequestError(f"gate {path} cannot be read: {error.strerror}") from error
        except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, an overlong integer
            raise RequestError(f"gate {path} is no TOML file: {error}") from error
        problems = [
            f"unknown key {name!r}: it holds [[require]] tables, and a table [evaluation]"
            for name in sorted(set(document) - {"require", "evaluation"})
        ]
        tables = document.get("require")
        if not isinstance(tables, list) or not tables:
            problems.append("it requires nothing: add a [[require]] table with figure and at_least")
            tables = []
        requirements = [_requirement(one, f"[[require]] {at + 1}", problems) for at, one in enumerate(tables)]
        settings = _settings(document.get("evaluation", {}), problems)
        if problems:
            raise RequestError(("\n  " if problems[1:] else " ").join([f"gate {path}:", *problems]))
        return cls(tuple(one for one in requirements if one is not None), settings)

    def failures(self, report: Report) -> tuple[str, ...]:
        """Return a sentence for each figure that does not meet a requirement: its name, bound and threshold."""
        return tuple(text for one in self.requirements for text in one.failures(report))

    def check(self, report: Report) -> None:
        """Compare a report.

        Raises:
            GateFailed: a requirement is not met, with every one that is not.
        """
        failures = self.failures(report)
        if failures:
            count = f"{len(failures)} requirement{'s' * (len(failures) != 1)} of the gate failed"
            raise GateFailed("\n  ".join([f"{count}:", *failures]))


def _requirement(value: Any, where: str, problems: list[str]) -> Requirement | None:
    """Return a requirement, or None after saying what is wrong with it."""
    if not isinstance(value, dict):
        problems.append(f"{where}: it is {value!r}, not a table")
        return None
    wrong = [f"unknown key {name!r}: {_nearest(name, _KEYS)}" for name in sorted(set(value) - set(_KEYS))]
    figure, group = value.get("figure"), value.get("group")
    if not isinstance(figure, str) or not figure:
        wrong.append(f"figure is {figure!r}: it must be the name of a figure, as in report.json")
    if group is not None and not isinstance(group, str):
        wrong.append(f"group is {group!r}: it must be text")
    bounds = {name: value[name] for name in ("at_least", "at_most") if name in value}
    unfit = [name for name, bound in bounds.items() if not _finite(bound)]
    wrong += [f"{name} is {bounds[name]!r}: it must be a finite number" for name in unfit]
    low, high = (None if name not in bounds or unfit else float(bounds[name]) for name in ("at_least", "at_most"))
    if not bounds:
        wrong.append(f"{figure} has neither at_least nor at_most")
    if low is not None and high is not None and low > high:
        wrong.append(f"at_least {low:g} is above at_most {high:g}: no value meets both")
    problems += [f"{where}: {one}" for one in wrong]
    return None if wrong else Requirement(figure=str(figure), group=group, at_least=low, at_most=high)


def _settings(value: Any, problems: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        problems.append(f"[evaluation]: it is {value!r}, not a table")
        return {}
    found = {}
    for name, one in value.items():
        key = name.replace("-", "_")
        if key not in SETTINGS:
            problems.append(f"[evaluation]: unknown key {name!r}: {_nearest(key, SETTINGS)}")
        elif not SETTINGS[key][0](one):
            problems.append(f"[evaluation]: {name} is {one!r}: it must be {SETTINGS[key][1]}")
        found[key] = one
    return found


def _nearest(name: str, keys: Iterable[str]) -> str:
    near = get_close_matches(name, keys, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"the keys are {', '.join(keys)}"


def _finite(value: Any) -> bool:
    """Return whether a value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max  # False for NaN too


def _apart(bound: float, threshold: float) -> tuple[str, str]:
    """Return two different numbers as texts that differ, as short as they can."""
    texts = ((f"{bound:.{digits}g}", f"{threshold:.{digits}g}") for digits in range(4, 18))
    return next(pair for pair in texts if pair[0] != pair[1])


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


def _matches(requirement: Requirement, figure: Figure) -> bool:
    if figure.name != requirement.figure:
        return False
    return figure.group is not None if requirement.group == "*" else figure.group == requirement.group


def _name(figure: Figure) -> str:
    return figure.name if figure.group is None else f"{figure.name} of {figure.group!r}"
