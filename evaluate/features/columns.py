"""The columns of a table as features: numbers standardised, categories as indicators, missing values marked.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.data.overlap import split_digest
from gen_engine.evaluate.metrics.contract import Extractor
from gen_engine.evaluate.metrics.scalars import categories, is_category, numbers, scalar_fields
from gen_engine.evaluate.split import Split

_INDICATORS: Final = 50
"""Most indicators of one column, of its most frequent categories; all others share one."""

_CLIP: Final = 10.0
"""Standard deviations beyond which a number is not moved further: one value would outweigh all columns."""


@dataclass(frozen=True)
class _Number:
    name: str
    centre: float
    spread: float
    marked: bool
    """Whether some training rows miss it."""


@dataclass(frozen=True, eq=False)
class _Category:
    name: str
    place: NDArray[np.intp]
    """Id → indicator; the last entry is of missing values."""

    width: int


@dataclass(frozen=True, eq=False)
class ColumnFeatures:
    """How the columns of tables of one schema become features."""

    identity: str
    parts: tuple[_Number | _Category, ...]

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return float32 [N, D]. Two rows that differ in one category are as far apart as by one deviation."""
        widths = [one.width if isinstance(one, _Category) else 1 + one.marked for one in self.parts]
        result_ND = np.zeros((len(split), sum(widths)), np.float32)
        at = 0
        for part, width in zip(self.parts, widths, strict=True):
            block = result_ND[:, at : at + width]
            at += width
            if isinstance(part, _Category):
                block[np.arange(len(split)), part.place[categories(split, part.name)]] = np.sqrt(0.5)
                continue
            values = numbers(split, part.name)
            with np.errstate(invalid="ignore", over="ignore"):
                block[:, 0] = np.nan_to_num(np.clip((values - part.centre) / part.spread, -_CLIP, _CLIP), nan=0.0)
            if part.marked:
                block[:, 1] = np.isnan(values)
        return result_ND


def open_columns(argument: str | None, sides: Sides, seed: int) -> Extractor:
    """Return features of the columns, scaled by the training rows."""
    if argument is not None:
        raise RequestError(f"--features columns:{argument}: columns take no argument")
    train = sides.train
    parts = tuple(
        _category(train, one.name) if is_category(one) else _number(train, one.name) for one in scalar_fields(train)
    )
    return ColumnFeatures(f"columns, scaled by train {split_digest(train)[:12]}", parts)


def _number(train: Split, name: str) -> _Number:
    values = numbers(train, name)
    finite = values[np.isfinite(values)]
    centre = float(np.median(finite)) if len(finite) else 0.0
    spread = float(finite.std()) if len(finite) else 1.0
    return _Number(name, centre, spread if 0 < spread < np.inf else 1.0, bool(np.isnan(values).any()))


def _category(train: Split, name: str) -> _Category:
    ids = categories(train, name)
    count = len(train.schema[name].categories or ())
    frequency = np.bincount(ids[ids >= 0], minlength=count)
    kept = np.argsort(-frequency, kind="stable")[:_INDICATORS]
    place = np.full(count + 1, len(kept), np.intp)  # the rare ones share an indicator
    place[kept] = np.arange(len(kept))
    place[-1] = len(kept) + 1  # missing: id -1
    return _Category(name, place, len(kept) + 2)
