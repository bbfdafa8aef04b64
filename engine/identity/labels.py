"""Which class each sample is: a function of the sample's index, like its latents.

A plan is the value of ``--labels``, resolved against the bundle's classes and small enough for the job's plan:

- ``balanced``: sample i is of class ``i mod count``, so every run of ``count`` samples holds each class once;
- ``constant``: one class;
- ``weighted``: independent draws with the given probabilities, from a separate Philox stream;
- ``file``: an integer array, pinned by its sha256;
- ``source``: that of the sample which it was derived from, so never drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import sha256_file
from gen_engine.engine.base.npy import map_npy
from gen_engine.engine.base.parse import Fields, digest, integer, list_of, number, one_of
from gen_engine.engine.base.strict_json import DocumentError, show
from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.label_grammar import (
    BALANCED,
    FILE,
    describe_classes,
    has_weights,
    parse_class,
    parse_weights,
)
from gen_engine.engine.identity.latents import LABEL_STREAM, philox_words

LabelsLike: TypeAlias = str | int | Sequence[int] | NDArray[np.integer[Any]] | None
"""Labels that a program may request: a ``--labels`` value, a class id, or an id per sample; None is ``balanced``."""

_ROWS_A_CHECK = 1 << 20
_MAX_CLASSES = 1_000_000

_CYCLE = 1 << 13
"""Balanced labels that are kept: to slice them is 10 to 40 times as fast as to divide the indices of a batch."""


@dataclass(frozen=True, kw_only=True)
class LabelPlan:
    """How the labels of a job are made. Equal plans make equal labels."""

    kind: str
    """balanced, constant, weighted, file or source."""

    constant: int | None = None
    """The class of every sample."""

    weights: tuple[float, ...] | None = None
    """One probability per class, summing to 1."""

    file_sha256: str | None = None
    """Digest of the label file's bytes."""

    def possible(self, classes: int) -> list[int]:
        """Return the classes, of so many, that labels may be of; all where a file says it."""
        if self.constant is not None:
            return [self.constant]
        weights = self.weights or (1.0,) * classes
        return [label for label, weight in enumerate(weights) if weight > 0]

    def restricted(self, kept: Sequence[int], classes: int) -> LabelPlan:
        """Return the plan of labels that are drawn from some of the classes only, in their shares of this plan.

        Args:
            kept: ids of the classes, ascending; one at least has a share.
            classes: how many there are.
        """
        within = [label for label in self.possible(classes) if label in set(kept)]
        if within == self.possible(classes):
            return self
        if len(within) == 1:
            return LabelPlan(kind="constant", constant=within[0])
        weights = self.weights or (1.0,) * classes
        total = math.fsum(weights[label] for label in within)
        shares = [weights[label] / total if label in set(within) else 0.0 for label in range(classes)]
        return LabelPlan(kind="weighted", weights=tuple(shares))

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set."""
        fields = {"constant": self.constant, "weights": self.weights, "file_sha256": self.file_sha256}
        values = {name: value for name, value in fields.items() if value is not None}
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, value: Any, where: str) -> LabelPlan:
        """Read what :meth:`to_json` returned: the kind, and the one field that it has.

        Raises:
            DocumentError: it is something else.
        """
        with Fields(value, where) as fields:
            kind = fields.take("kind", one_of("balanced", "constant", "weighted", "file", "source"))
            return cls(
                kind=kind,
                constant=fields.take("constant", integer(0, _MAX_CLASSES - 1)) if kind == "constant" else None,
                weights=fields.take("weights", read_weights) if kind == "weighted" else None,
                file_sha256=fields.take("file_sha256", digest) if kind == "file" else None,
            )


def read_weights(value: Any, where: str) -> tuple[float, ...]:
    """Read one probability per class; DocumentError unless they add up to 1."""
    weights = list_of(number(0, 1), 1, _MAX_CLASSES)(value, where)
    if abs(math.fsum(weights) - 1) > 1e-6:
        raise DocumentError(where, f"{show(value)} does not add up to 1")
    return weights


class Labels:
    """Draws the labels of a plan. ``names`` are the bundle's classes, in order of their ids.

    Args:
        plan: what to draw.
        names: class names.
        seed: the job's seed, used by weighted draws.
        file: the label array of a ``file`` plan, integers [count].
        first: index of the array's first sample.
    """

    def __init__(
        self,
        plan: LabelPlan,
        names: Sequence[str],
        seed: int,
        file: NDArray[np.integer[Any]] | None = None,
        first: int = 0,
    ) -> None:
        self._plan, self._seed, self._file, self._first = plan, seed, file, first
        self._classes = len(names)
        self._cycle = np.arange(_CYCLE, dtype=np.int64) % max(self._classes, 1)
        self._cycle.flags.writeable = False
        self._cumulative = np.cumsum(plan.weights) if plan.weights is not None else None

    def draw(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the labels of samples ``[start, stop)``: int64 [stop - start], which may be read-only.

        Beyond either end of a label file its nearest label is repeated: these samples only pad a batch.
        """
        if self._plan.kind == "balanced":
            first = start % self._classes
            last = first + stop - start
            return self._cycle[first:last] if last <= _CYCLE else np.arange(first, last, dtype=np.int64) % self._classes
        if self._plan.kind == "constant":
            return np.full(stop - start, self._plan.constant, np.int64)
        if self._file is not None:
            rows = np.clip(np.arange(start, stop) - self._first, 0, self._file.shape[0] - 1)
            return np.asarray(self._file[rows], np.int64)
        return self._draw_weighted(start, stop)

    def _draw_weighted(self, start: int, stop: int) -> NDArray[np.int64]:
        """Word i of the label stream, as a 53-bit fraction, falls into one of the classes' intervals."""
        assert self._cumulative is not None
        first_block, last_block = start // 4, -(-stop // 4)
        words = philox_words(self._seed, LABEL_STREAM, first_block, last_block - first_block)
        fraction = (words[start - 4 * first_block :][: stop - start] >> np.uint64(11)) * 2.0**-53
        labels = np.searchsorted(self._cumulative, fraction, side="right")
        # Rounding may leave the last sum slightly below 1: a fraction above it belongs to the last weighted class.
        last = int(np.flatnonzero(np.diff(self._cumulative, prepend=0.0) > 0)[-1])
        return np.minimum(labels, last).astype(np.int64)


def parse_labels(text: str, names: Sequence[str], count: int) -> tuple[LabelPlan, NDArray[np.integer[Any]] | None]:
    """Read a ``--labels`` value: see :mod:`gen_engine.engine.identity.label_grammar`.

    Returns:
        The plan, and for a file its memory-mapped array.

    Raises:
        RequestError: unknown class (with the nearest names), invalid weights, or a file that does
            not hold at least ``count`` valid class ids.
    """
    weighted = has_weights(text, names)  # refuses ambiguous text
    if text == BALANCED:
        return LabelPlan(kind="balanced"), None
    if text.startswith(FILE):
        return _read_label_file(Path(text.removeprefix(FILE)), names, count)
    if weighted:
        return LabelPlan(kind="weighted", weights=parse_weights(text, names)), None
    return LabelPlan(kind="constant", constant=parse_class(text, names)), None


def open_labels(labels: LabelsLike, names: Sequence[str], *, seed: int, start: int, stop: int) -> Labels:
    """Return the labels of the samples ``[start, stop)`` for a program's own value.

    A row of ids has one for each of these samples, in order; a label file has one for every sample from 0 on.

    Raises:
        RequestError: as :func:`parse_labels`; or a row that is not integer ids, of another length, or with an unknown
            id.
    """
    if labels is None:
        return Labels(LabelPlan(kind="balanced"), names, seed)
    if isinstance(labels, str):
        plan, file = parse_labels(labels, names, stop)
        return Labels(plan, names, seed, file)
    if np.ndim(labels) == 0:
        label = index(labels)  # type: ignore[arg-type]
        if not 0 <= label < len(names):
            raise RequestError(f"label {label} is not a class id; the classes are {describe_classes(names)}")
        return Labels(LabelPlan(kind="constant", constant=label), names, seed)
    ids = np.asarray(labels)
    if ids.size == 0 and start == stop:
        return Labels(LabelPlan(kind="balanced"), names, seed)
    _refuse_no_row("labels", ids)
    if ids.shape[0] != stop - start:
        raise RequestError(f"labels: {ids.shape[0]} ids for {stop - start} samples; give one per sample")
    _refuse_bad_ids("labels", ids, names)
    return Labels(LabelPlan(kind="file"), names, seed, ids, start)


def _read_label_file(path: Path, names: Sequence[str], count: int) -> tuple[LabelPlan, NDArray[np.integer[Any]]]:
    try:
        array = map_npy(path)
        digest = sha256_file(path)
    except Exception as error:  # numpy's parser raises many types for a damaged header
        raise RequestError(f"labels file {path}: cannot be read as a .npy array ({error})") from error
    _refuse_no_row(f"labels file {path}", array)
    if array.shape[0] < count:
        raise RequestError(f"labels file {path}: holds {array.shape[0]} labels for {count} samples")
    _refuse_bad_ids(f"labels file {path}", array[:count], names)
    return LabelPlan(kind="file", file_sha256=digest), array[:count]


def _refuse_no_row(what: str, array: NDArray[Any]) -> None:
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        actual = f"{array.dtype} {list(array.shape)}"
        raise RequestError(f"{what}: holds {actual}; it must hold one row of integer class ids")


def _refuse_bad_ids(what: str, array: NDArray[np.integer[Any]], names: Sequence[str]) -> None:
    for first in range(0, array.shape[0], _ROWS_A_CHECK):
        rows = array[first : first + _ROWS_A_CHECK]
        bad = np.flatnonzero((rows < 0) | (rows >= len(names)))
        if bad.size:
            where = int(bad[0])
            raise RequestError(
                f"{what}: label {int(rows[where])} at row {first + where} is not a class id; "
                f"the classes are {describe_classes(names)}"
            )
