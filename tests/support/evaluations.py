"""Evaluations of arrays in memory: vectors that are their own features, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field, Schema
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.metrics import METRICS
from gen_engine.evaluate.metrics.contract import Budget, Evaluation
from gen_engine.evaluate.split import Role, Split


@dataclass(frozen=True)
class Itself:
    """The features of a row are its numbers: a vector, or the columns of a table side by side."""

    identity: str = "the vectors themselves"

    def features(self, split: Split) -> NDArray[np.float32]:
        columns = [np.asarray(split[one.name]).reshape(len(split), -1) for one in split.inputs]
        return np.hstack(columns).astype(np.float32)


def vector_split(role: Role, rows: NDArray[Any], labels: NDArray[Any] | None, classes: int = 0) -> Split:
    fields = [Field(name="x", kind="vector", dtype="float32", shape=(rows.shape[1],))]
    columns: dict[str, NDArray[Any]] = {"x": rows.astype(np.float32)}
    if labels is not None:
        names = tuple(f"class {one}" for one in range(classes))
        fields.append(Field(name="label", kind="label", dtype="int64", categories=names))
        columns["label"] = labels.astype(np.int64)
    return Split(role, f"{role}.npy", Schema(tuple(fields)), columns, None if labels is None else "label")


def vectors(
    train: NDArray[Any],
    synthetic: NDArray[Any],
    test: NDArray[Any] | None = None,
    labels: Sequence[NDArray[Any] | None] = (None, None, None),
    *,
    budget: Budget = Budget(),  # noqa: B008  # it is frozen
    seed: int = 0,
) -> Evaluation:
    """Return an evaluation of vectors [N, D], with labels of train, synthetic and test in that order."""
    classes = 1 + max((int(one.max()) for one in labels if one is not None), default=0)
    return Evaluation(
        synthetic=vector_split("synthetic", synthetic, labels[1], classes),
        train=vector_split("train", train, labels[0], classes),
        test=None if test is None else vector_split("test", test, labels[2], classes),
        extractor=Itself(),
        budget=budget,
        seed=seed,
    )


def table_split(
    role: Role,
    columns: Mapping[str, NDArray[Any]],
    categories: Mapping[str, tuple[str, ...]],
    target: str | None = None,
) -> Split:
    fields = tuple(
        Field(name=name, kind="category", dtype="int64", categories=categories[name])
        if name in categories
        else Field(name=name, kind="float", dtype="float64")
        for name in columns
    )
    return Split(role, f"{role}.parquet", Schema(fields), columns, target)


def tables(
    train: Mapping[str, NDArray[Any]],
    synthetic: Mapping[str, NDArray[Any]],
    test: Mapping[str, NDArray[Any]] | None = None,
    *,
    categories: Mapping[str, tuple[str, ...]],
    target: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Return an evaluation of tables: columns with categories hold ids, the others are float64."""
    return Evaluation(
        synthetic=table_split("synthetic", synthetic, categories, target),
        train=table_split("train", train, categories, target),
        test=None if test is None else table_split("test", test, categories, target),
        extractor=Itself(),
        seed=seed,
    )


def figures_of(metric: str, evaluation: Evaluation) -> list[Figure]:
    return list(METRICS.load(metric)().figures(evaluation))


def by_name(metric: str, evaluation: Evaluation, group: str | None = None) -> dict[str, Figure]:
    """Return a metric's figures of one group by name."""
    return {one.name: one for one in figures_of(metric, evaluation) if one.group == group}


def glyphs(count: int, seed: int, classes: int = 4, side: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images of as many kinds of strokes, uint8 [N, S, S, 1], with noise: any number of fresh rows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    images = rng.normal(60, 25, (count, side, side))
    rows, columns = rng.integers(1, side - 1, (2, count))
    at = np.arange(count)
    for step in range(-2, 3):
        down = np.where(labels == 0, step, np.where(labels == 1, 0, step))
        right = np.where(labels == 0, 0, np.where(labels == 1, step, np.where(labels == 2, step, -step)))
        images[at, np.clip(rows + down, 0, side - 1), np.clip(columns + right, 0, side - 1)] += 150
    return np.clip(images, 0, 255).astype(np.uint8)[..., None], labels


def image_split(role: Role, images: NDArray[np.uint8], labels: NDArray[np.int64] | None, classes: int = 4) -> Split:
    fields = [Field(name="image", kind="image", dtype="uint8", shape=images.shape[1:])]
    columns: dict[str, NDArray[Any]] = {"image": images}
    if labels is not None:
        names = tuple(f"stroke {one}" for one in range(classes))
        fields.append(Field(name="label", kind="label", dtype="int64", categories=names))
        columns["label"] = labels
    return Split(role, f"{role}.npz", Schema(tuple(fields)), columns, None if labels is None else "label")


def image_sides(synthetic: Split, train: int = 1500, test: int = 1500) -> Sides:
    """Return synthetic images with fresh real ones beside them."""
    return Sides(
        synthetic=synthetic,
        train=image_split("train", *glyphs(train, 1)),
        test=image_split("test", *glyphs(test, 2)),
    )
