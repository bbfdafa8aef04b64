"""Random tables that satisfy random constraints, and a check of rows that shares nothing with the package."""

from __future__ import annotations

import datetime
import operator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

SIGNS = {"<=": operator.le, "<": operator.lt}

NUMBERS = ("int16", "int64", "large", "decimal2", "decimal0", "money", "real", "single")
TIMES = ("date", "seconds", "micros")


@dataclass(frozen=True)
class Rule:
    """A comparison of two columns, a range, or a sum."""

    text: str
    columns: tuple[str, ...]
    holds: Any
    """Whether it does, of Python's values in order, none of which is missing."""


def unit_of(kind: str) -> Fraction:
    """What a column of this kind is a multiple of: of one, or of a second."""
    return {
        "decimal2": Fraction(1, 100),
        "money": Fraction(1, 100),
        "real": Fraction(1, 10**9),
        "single": Fraction(1, 8),  # exact in float32, and compared as its value
        "date": Fraction(86_400),
        "micros": Fraction(1, 10**6),
    }.get(kind, Fraction(1))


def column(kind: str, steps: list[int], missing: np.ndarray) -> pa.Array:
    """Multiples of a kind's unit as a column."""
    count = len(steps)
    if kind in ("int16", "int64", "large"):
        made = pa.array(steps, pa.int16() if kind == "int16" else pa.int64())
    elif kind.startswith("decimal"):
        scale = int(kind[-1])
        made = pa.array([Decimal(step).scaleb(-scale) for step in steps], pa.decimal128(18, scale))
    elif kind in TIMES:
        seconds = [step * unit_of(kind) for step in steps]
        moment = datetime.datetime(1970, 1, 1)
        whole = [moment + datetime.timedelta(microseconds=int(one * 10**6)) for one in seconds]
        made = (
            pa.array([one.date() for one in whole])
            if kind == "date"
            else pa.array(whole, pa.timestamp("s" if kind == "seconds" else "us"))
        )
    else:
        floats = [float(step * unit_of(kind)) for step in steps]
        made = pa.array(floats, pa.float32() if kind == "single" else pa.float64())
    return pa.array(made.to_pylist(), made.type, mask=missing) if missing.any() and count else made


def number(value: Any) -> Any:
    """A value that compares exactly with others."""
    if isinstance(value, datetime.datetime):
        return (value.replace(tzinfo=None) - datetime.datetime(1970, 1, 1)) / datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return float((value - datetime.date(1970, 1, 1)).days * 86_400 * 10**6)
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def add_order(rng: np.random.Generator, columns: dict[str, pa.Array], kinds: list[str], count: int) -> list[Rule]:
    """Add a chain of columns."""
    width = 10 ** int(rng.integers(0, 3))
    span = 86_400 * width if kinds[0] in TIMES else width
    offset = 2**61 // 1000 if set(kinds) == {"large"} else 0
    place, rules, before = len(columns), [], None
    part = 1 if kinds[0] in TIMES else int(rng.choice([1, 8, 1000]))
    floor = [Fraction(int(one), part) + offset for one in rng.integers(-span * part, span * part, count)]
    for step, kind in enumerate(kinds):
        name, unit = f"c{place + step} {kind}", unit_of(kind)
        strict = bool(rng.random() < 0.5)
        chosen = [-(-one // unit) for one in floor]
        if strict and before is not None:
            chosen = [one + (one * unit == low) for one, low in zip(chosen, floor, strict=True)]
        columns[name] = column(kind, [int(one) for one in chosen], missing_of(rng, count))
        if before is not None:
            sign = "<" if strict else "<="
            rules.append(Rule(f'"{before}" {sign} "{name}"', (before, name), SIGNS[sign]))
        grown = np.where(rng.random(count) < 0.3, 0, rng.integers(0, span + 1, count))
        floor = [one * unit + int(more) for one, more in zip(chosen, grown, strict=True)]
        before = name
    return rules


def add_sum(rng: np.random.Generator, columns: dict[str, pa.Array], kinds: list[str], count: int) -> list[Rule]:
    """Add parts and their total, or parts of a constant."""
    place, constant = len(columns), rng.random() < 0.5
    names = [f"p{place + step} {kind}" for step, kind in enumerate(kinds)]
    steps = [[int(one) for one in rng.integers(0, 40, count)] for _ in kinds]
    total = [
        sum((step * unit_of(kind) for step, kind in zip(row, kinds, strict=True)), Fraction(0))
        for row in zip(*steps, strict=True)
    ]
    for name, kind, values in zip(names, kinds, steps, strict=True):
        columns[name] = column(kind, values, missing_of(rng, count))
    if constant:
        rest, goal = f"p{place + len(kinds)} rest", 1000
        names.append(rest)
        columns[rest] = column("decimal2", [int((goal - one) * 100) for one in total], missing_of(rng, count))
        text = " + ".join(f'"{name}"' for name in names) + f" = {goal}"
        return [Rule(text, tuple(names), lambda *values: sum(values) == goal)]
    whole = f"p{place + len(kinds)} total"
    columns[whole] = column("decimal2", [int(one * 100) for one in total], missing_of(rng, count))
    text = " + ".join(f'"{name}"' for name in names) + f' = "{whole}"'
    return [Rule(text, (*names, whole), lambda *values: sum(values[:-1]) == values[-1])]


def missing_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """Half of the columns have missing values; the first two rows are complete."""
    missing = rng.random(count) < (0.3 if rng.random() < 0.5 else 0.0)
    missing[:2] = False
    return missing


def add_range(rng: np.random.Generator, columns: dict[str, pa.Array], kind: str, count: int) -> list[Rule]:
    """Add a column between two constants."""
    name = f"r{len(columns)} {kind}"
    columns[name] = column(kind, rng.integers(0, 1001, count).tolist(), missing_of(rng, count))
    high = unit_of(kind) * 1000
    text = f'0 <= "{name}" <= {float(high):f}'
    return [Rule(text, (name,), lambda value: 0 <= value <= high)]


def violations(table: pa.Table, rules: list[Rule]) -> dict[str, int]:
    """In how many rows each rule does not hold."""
    counts = {}
    for rule in rules:
        rows = zip(*(table[name].to_pylist() for name in rule.columns), strict=True)
        complete = [row for row in rows if None not in row]
        counts[rule.text] = sum(not rule.holds(*map(number, row)) for row in complete)
    return counts
