"""A hand-made generator of a table: each column is looked up in a table of values, at a place that a latent chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gen_engine.engine.identity.bundle import (
    LABELS_INPUT,
    LATENTS_INPUT,
    Bundle,
    LabelSpec,
    LatentSpec,
    OutputSpec,
    write_bundle,
)
from gen_engine.engine.sample.field import Field
from gen_engine.engine.sample.kinds.calendar import DAY_S, FIRST_DAY, LAST_DAY, TICKS

ODD_TEXTS = (
    "",
    " ",
    "a,b",
    'say "hi"',
    "two\nlines",
    "CR\r\nLF",
    "NULL",
    "nan",
    "Zoë 🙂",
    "=1+1",
    "\t",
    "#x",
    "'",
    "\\N",
)
PLACES = 64
"""Values in the table of a column."""


def _column(number: int, kind: str, title: str, **attributes: Any) -> OutputSpec:
    return OutputSpec(name=f"c{number}", tensor=f"c{number}", kind=kind, title=title, **attributes)


EVERY_KIND = tuple(
    _column(number, *kind_and_title, **attributes)
    for number, (kind_and_title, attributes) in enumerate(
        [
            (("float", "plain"), {}),
            (("float", "a,b"), {"dtype": "float64", "nullable": True}),
            (("float", 'quote"d'), {"dtype": "float32", "nullable": True}),
            (("integer", "two\nlines"), {}),
            (("integer", " spaces "), {"dtype": "int16", "nullable": True}),
            (("integer", "unsigned"), {"dtype": "uint64"}),
            (("boolean", "index"), {}),
            (("boolean", "label"), {"nullable": True}),
            (("category", "Zoë 🙂"), {"categories": ODD_TEXTS, "nullable": True}),
            (("category", "a.b"), {"categories": tuple(f"code {i}" for i in range(300)), "dtype": "int32"}),
            (("date", "=1+1"), {"nullable": True}),
            (("date", "seed"), {}),
            (("datetime", "s"), {"unit": "s"}),
            (("datetime", "ms"), {"unit": "ms", "utc": True, "nullable": True}),
            (("datetime", "us"), {"unit": "us", "nullable": True}),
            (("datetime", "ns"), {"unit": "ns", "utc": True}),
            (("decimal", "whole"), {"scale": 0}),
            (("decimal", "amount"), {"scale": 2, "nullable": True}),
            (("decimal", "small"), {"scale": 18}),
        ]
    )
)
"""Columns of every kind, without and with missing values."""

INCOME = LabelSpec(names=("<=50K", ">50K, or more"), title='income, "last" year')


def census_like(columns: int = 41) -> tuple[OutputSpec, ...]:
    """Return as many columns as a census has: four in five are categories, the others are integers."""
    return tuple(
        _column(i, "integer", f"number {i}") if i % 5 == 4 else _named(i, f"column {i}", 3 + i % 50)
        for i in range(columns)
    )


def _named(number: int, title: str, categories: int) -> OutputSpec:
    names = tuple(f"name {k}" for k in range(categories))
    return _column(number, "category", title, dtype="int32", categories=names)


def values_of(field: Field, rng: np.random.Generator, count: int = PLACES) -> NDArray[Any]:
    """Return values that a field can have, [count]; every eighth is missing where they may be."""
    values = _drawn(field, rng, count).astype(field.numpy_dtype)
    if field.nullable:
        values[::8] = field.missing_value
    return values


def _drawn(field: Field, rng: np.random.Generator, count: int) -> NDArray[Any]:
    if field.categories is not None:
        return rng.integers(0, len(field.categories), count)
    if field.kind == "float":
        return rng.standard_normal(count) * 10.0 ** rng.integers(-30, 30, count)
    if field.kind == "boolean":
        return rng.integers(0, 2, count)
    if field.kind == "date":
        return np.concatenate([[FIRST_DAY, LAST_DAY], rng.integers(FIRST_DAY, LAST_DAY, count - 2)])
    if field.kind == "datetime":
        ticks = TICKS[field.unit or "s"] * DAY_S
        first, last = (-100_000, 100_000) if field.unit == "ns" else (FIRST_DAY, LAST_DAY)
        return rng.integers(first * ticks, last * ticks, count)
    if field.kind == "decimal":
        return np.concatenate([[1 - 10**18, 10**18 - 1, 0, -5], rng.integers(-(10**6), 10**6, count - 4)])
    bounds = np.iinfo(field.dtype)
    return rng.integers(bounds.min + (bounds.min < 0), bounds.max, count, field.dtype, endpoint=True)


def make_columns_bundle(
    path: Path,
    columns: Sequence[OutputSpec] = EVERY_KIND,
    *,
    labels: LabelSpec | None = None,
    tables: dict[str, NDArray[Any]] | None = None,
    seed: int = 0,
) -> Bundle:
    """Write the bundle; ``tables`` has the values of some columns, :data:`PLACES` each, by name."""
    rng = np.random.default_rng(seed)
    values = {one.name: values_of(one.field, rng) for one in columns} | (tables or {})
    return write_bundle(
        path,
        name=path.name.removesuffix(".gen"),
        latent=LatentSpec(dim=len(columns), distribution="uniform"),
        labels=labels,
        output=columns,
        generator=_graph(columns, values, labels is not None).SerializeToString(deterministic=True),
        training={},
        parity={},
    )


def _graph(columns: Sequence[OutputSpec], values: dict[str, NDArray[Any]], labelled: bool) -> onnx.ModelProto:
    node, made = helper.make_node, helper.make_tensor_value_info
    weights: dict[str, Any] = {
        "one": np.float32(1),
        "half": np.float32(PLACES / 2),
        "last": np.float32(PLACES - 1),
        "zero": np.float32(0),
        "flat": np.array([-1], np.int64),
    } | {f"{name}_table": table for name, table in values.items()}
    nodes = [
        node("Add", [LATENTS_INPUT, "one"], ["from_0"]),
        node("Mul", ["from_0", "half"], ["scaled"]),
        node("Floor", ["scaled"], ["floor"]),
        node("Clip", ["floor", "zero", "last"], ["clipped"]),
        node("Cast", ["clipped"], ["place" if not labelled else "place_0"], to=TensorProto.INT64),
    ]
    inputs = [made(LATENTS_INPUT, TensorProto.FLOAT, ["batch", len(columns)])]
    if labelled:
        inputs.append(made(LABELS_INPUT, TensorProto.INT64, ["batch"]))
        weights |= {"seven": np.int64(7), "axis": np.array([1], np.int64), "places": np.int64(PLACES)}
        nodes += [
            node("Mul", [LABELS_INPUT, "seven"], ["shift"]),
            node("Unsqueeze", ["shift", "axis"], ["shift_1"]),
            node("Add", ["place_0", "shift_1"], ["shifted"]),
            node("Mod", ["shifted", "places"], ["place"]),
        ]
    nodes.append(node("Split", ["place"], [f"{one.name}_at" for one in columns], axis=1, num_outputs=len(columns)))
    for one in columns:
        nodes.append(node("Reshape", [f"{one.name}_at", "flat"], [f"{one.name}_place"]))
        nodes.append(node("Gather", [f"{one.name}_table", f"{one.name}_place"], [one.tensor]))
    outputs = [made(one.tensor, helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)), ["batch"]) for one in columns]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "columns", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
