"""The evaluation's metrics on a small budget, as figures of a watched training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gen_engine.evaluate.metrics.contract import Metric
    from gen_engine.evaluate.split import Role, Split
    from gen_engine.train.watch.hook import Measured, Rows, Watched, WatchMetric

NAME = "evaluate"
"""Figures are evaluate.FIGURE, the figure's name as in a report."""

STEPS = 100
"""Optimiser steps of a classifier; the other sizes are those of a look."""


def watch_metrics(names: str | None) -> list[WatchMetric]:
    """Return what computes these metrics of ``gen-engine evaluate``, their names joined by commas.

    Raises:
        RequestError: a name is unknown.
    """
    if names is None:
        return []
    from gen_engine.evaluate.run import open_metrics
    from gen_engine.train.watch.hook import WatchMetric

    metrics = open_metrics([one.strip() for one in names.split(",")]) or []
    return [WatchMetric(name=NAME, measure=lambda watched: _measure(watched, metrics))]


def _measure(watched: Watched, metrics: list[Metric]) -> Mapping[str, Measured]:
    """Return the figures of the whole dataset, in the features of principal components."""
    from gen_engine.evaluate.data import Sides
    from gen_engine.evaluate.metrics.contract import Budget
    from gen_engine.evaluate.run import evaluate_sides
    from gen_engine.train.watch.hook import Measured

    sides = Sides(
        synthetic=_split("synthetic", watched.samples, watched.class_names),
        train=_split("train", watched.train, watched.class_names),
        test=_split("test", watched.test, watched.class_names),
    )
    rows = len(watched.samples.images_NHWC)
    budget = Budget(rows=rows, resamples=20, seeds=1, train_rows=rows, steps=STEPS, small_steps=STEPS)
    report = evaluate_sides(sides, features="pca", metrics=metrics, budget=budget)
    return {
        figure.name: Measured(
            value=float("nan") if figure.value is None else figure.value,
            better="lower" if figure.better == "lower" else "higher",
        )
        for figure in report.figures
        if figure.group is None
    }


def _split(role: Role, rows: Rows, class_names: tuple[str, ...] | None) -> Split:
    from gen_engine.engine.sample.schema import Column, Field, Schema
    from gen_engine.evaluate.data.rows import image_split
    from gen_engine.evaluate.split import NamedField

    fields = [Field(name="image", kind="image", shape=rows.images_NHWC.shape[1:], dtype="uint8")]
    columns: dict[str, Column] = {"image": rows.images_NHWC}
    if rows.labels_N is not None:
        fields.append(NamedField(name="label", kind="label", dtype="int64", categories=class_names))
        columns["label"] = rows.labels_N
    return image_split(role, role, Schema(tuple(fields)), columns, ())
