"""Run an evaluation: read the sides, open the extractor, compute the metrics, and collect a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import numpy as np

from gen_engine.engine.errors import EngineError, RequestError
from gen_engine.evaluate.data import DataOptions, Sides, read_sides
from gen_engine.evaluate.data.overlap import split_digest
from gen_engine.evaluate.data.rows import Rows
from gen_engine.evaluate.features import open_extractor
from gen_engine.evaluate.figures import Figure, not_computed
from gen_engine.evaluate.metrics import METRICS
from gen_engine.evaluate.metrics.contract import Budget, Evaluation, Metric
from gen_engine.evaluate.metrics.scalars import is_table
from gen_engine.evaluate.report.report import Report, Side
from gen_engine.evaluate.split import Split

Log: TypeAlias = Callable[[str], None]
"""Is told what begins, for progress."""


def evaluate(
    synthetic: str | Path | Rows,
    train: str | Path,
    test: str | Path | None = None,
    *,
    data: DataOptions | None = None,
    features: str | None = None,
    metrics: Sequence[str] | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    log: Log | None = None,
) -> Report:
    """Evaluate a synthetic dataset against real data.

    Args:
        synthetic: a dataset of ours or its URL, a folder of images, npz, npy, Parquet, CSV, or WebDataset tars;
            or rows in memory, as of :func:`~gen_engine.evaluate.data.sources.read_generated`.
        train: the real rows that the generator was trained on.
        test: real rows that it was not trained on; without them nothing is said of usefulness and privacy.
        data: what the data mean, and how they are made comparable.
        features: the extractor, such as ``pca:32`` or ``onnx:model.onnx``; by default one that fits the data.
        metrics: names of metrics; by default all that fit the data.
        budget: how much the evaluation may spend.
        seed: decides which rows are drawn and how models are initialised.
        log: is called with what begins.

    Raises:
        DatasetError, DataError, VerifyError: data are missing, damaged or nothing that can be evaluated.
        RequestError: the sides differ and no option maps them, or an option is wrong.
        BackendUnavailable: a library is not installed.
    """
    chosen = open_metrics(metrics)
    options = data or DataOptions(seed=seed)
    log = log or _silent
    log("reading")
    rows = str(synthetic) if isinstance(synthetic, (str, Path)) else synthetic
    sides = read_sides(rows, str(train), None if test is None else str(test), options)
    return evaluate_sides(sides, features=features, metrics=chosen, budget=budget, seed=seed, log=log)


def evaluate_sides(
    sides: Sides,
    *,
    features: str | None = None,
    metrics: Sequence[Metric] | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    log: Log | None = None,
) -> Report:
    """Evaluate sides that were read; arguments and errors as :func:`evaluate`'s."""
    log = log or _silent
    log("opening the extractor")
    extractor = open_extractor(features, sides, seed)
    evaluation = Evaluation(
        synthetic=sides.synthetic,
        train=sides.train,
        test=sides.test,
        extractor=extractor,
        budget=budget or Budget(),
        seed=seed,
    )
    figures: list[Figure] = []
    for metric in metrics if metrics is not None else default_metrics(sides):
        log(metric.name)
        figures += _figures(metric, evaluation)
    return Report(
        version=version("gen-engine"),
        sides=tuple(_side(split) for split in sides.splits),
        target=sides.train.target,
        extractor=extractor.identity,
        seed=seed,
        budget=evaluation.budget,
        figures=tuple(figures),
        exhibits=tuple(evaluation.exhibits),
        notes=sides.notes,
    )


def open_metrics(names: Sequence[str] | None) -> list[Metric] | None:
    """Return metrics by name, or None for the default ones.

    Raises:
        RequestError: a name is unknown, with the nearest, or occurs twice.
    """
    if names is None:
        return None
    if not names:
        raise RequestError(f"no metric was named: choose of {', '.join(METRICS)}")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise RequestError(f"metric {twice[0]!r} is named twice")
    return [METRICS.load(name)() for name in names]


TABLES_ONLY = frozenset({"columns", "pairs", "attributes"})


def default_metrics(sides: Sides) -> list[Metric]:
    """Return every metric that fits the data, those of plugins too."""
    table = is_table(sides.train)
    return [METRICS.load(name)() for name in METRICS if table or name not in TABLES_ONLY]


def _figures(metric: Metric, evaluation: Evaluation) -> Iterable[Figure]:
    """Return a metric's figures; if it fails, those it made, and one that says why there are no more."""
    found: list[Figure] = []
    try:
        found += metric.figures(evaluation)
    except (MemoryError, EngineError, ValueError, ArithmeticError, np.linalg.LinAlgError, RuntimeError) as error:
        why = f"it failed ({type(error).__name__}: {error})"
        found.append(not_computed(metric.name, metric.name, metric.question, "higher", why))
    return found


def _side(split: Split) -> Side:
    counts: dict[str, int] = {}
    if split.classes is not None and split.class_ids is not None:
        known = split.class_ids[split.class_ids >= 0]
        numbers = np.bincount(known, minlength=len(split.classes)).tolist()
        counts = dict(zip(split.classes, numbers, strict=True))
    return Side(
        role=split.role,
        source=split.source,
        rows=len(split),
        digest=split_digest(split),
        class_counts=counts,
        notes=split.notes,
    )


def _silent(message: str) -> None:
    """Say nothing."""


def timed(log: Log) -> Log:
    """Return a log that also says when each step began, in seconds."""
    started = time.monotonic()
    return lambda message: log(f"{time.monotonic() - started:6.1f} s  {message}")
