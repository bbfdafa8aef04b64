"""A run on a table to a bundle: its graph of look-ups is compared with NumPy in every value.

Shape suffixes: B batch, Z latents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.identity.bundle import (
    LABELS_INPUT,
    LATENTS_INPUT,
    Bundle,
    LabelSpec,
    LatentSpec,
    OutputSpec,
    refuse_existing,
    write_bundle,
)
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.sample.schema import RESERVED_NAMES
from gen_engine.export.compile.gate import MOST_DIFFERING, equal_values
from gen_engine.export.errors import ParityError
from gen_engine.export.parity import BATCHES
from gen_engine.export.record import exported
from gen_engine.export.session import RUNTIME, Session
from gen_engine.export.tables.decode import tensor_name
from gen_engine.export.tables.graph import to_onnx
from gen_engine.train.tables.columns import ColumnSpec
from gen_engine.train.tables.model import TableModel, draw_rows
from gen_engine.train.tables.record import TableRecord, load_table


def export_table(
    run_dir: Path,
    out: Path,
    *,
    name: str | None = None,
    quality: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of a run on a table, and return it as read back.

    The same run makes the same ``generator.onnx``, byte for byte.

    Args:
        run_dir: the ``--out`` of a training run.
        out: the bundle's directory, by convention ``NAME.gen``.
        name: the generator's name; None for the NAME of ``out``.
        quality: figures measured on its samples, recorded as given.
        overwrite: replace a bundle that is at ``out``.

    Raises:
        CheckpointError: the run's model is missing or damaged.
        UnsupportedGenerator: it is too large for one ONNX file.
        ParityError: a value of the exported graph differs from NumPy's.
        OutputError: ``out`` exists or cannot be written.
    """
    refuse_existing(out, overwrite=overwrite)
    model, record = load_table(run_dir)
    graph = to_onnx(model)
    parity = check_equal(model, graph)
    columns = [model.columns[place] for place in model.order]
    return write_bundle(
        out,
        name=name or out.name.removesuffix(".gen"),
        latent=LatentSpec(dim=model.latent_dim, distribution="uniform"),
        labels=_labels(model),
        output=[
            _output(column, field, tensor_name(place))
            for column, field, place in zip(columns, field_names(columns), model.order, strict=True)
        ],
        generator=graph,
        training=_training(record, graph),
        parity=parity,
        quality=quality,
        overwrite=overwrite,
    )


def field_names(columns: Sequence[ColumnSpec]) -> list[str]:
    """Return a name of ASCII for each column, unique without case: its own where that is one."""
    taken = set(RESERVED_NAMES)
    names = []
    for column in columns:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", column.name).strip("_-")[:50] or "column"
        stem = stem if stem[0].isalpha() or stem[0] == "_" else f"c_{stem}"
        number, name = 1, stem
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _output(column: ColumnSpec, name: str, tensor: str) -> OutputSpec:
    given: dict[str, Any] = {"title": column.name, "nullable": column.nullable}
    if column.kind == "decimal":
        given["scale"] = column.scale
    if column.kind == "datetime":
        given |= {"unit": column.unit, "utc": column.utc}
    return OutputSpec(
        kind=column.kind, dtype=column.dtype, name=name, tensor=tensor, categories=column.categories, **given
    )


def _labels(model: TableModel) -> LabelSpec | None:
    if model.target is None:
        return None
    return LabelSpec(names=model.classes, title=model.target, weights=model.class_weights)


def _training(record: TableRecord, graph: bytes) -> dict[str, Any]:
    """Return the card: the columns with their types, and what was left out. Without times and paths."""
    return {
        "model": {"family": record.family, **record.options},
        "data": {
            "name": record.data_name,
            "sha256": record.data_digest,
            "rows": record.rows,
            "rows_fitted": record.fitted,
        },
        "columns": [
            {"name": one.name, "type": one.kind, "codes": one.codes, "nullable": one.nullable}
            for one in (record.columns[place] for place in record.order)
        ],
        "constraints": list(record.constraints),
        "dropped": [{"name": name, "reason": reason} for name, reason in record.dropped],
        "metrics": dict(record.metrics),
    } | exported(graph, ("onnx",))


def check_equal(model: TableModel, graph: bytes) -> dict[str, Any]:
    """Run the graph in ONNX Runtime and NumPy on the same latents; return the record of it.

    Look-ups are equal, by definition. A network's sums are rounded in another order, and a code that is drawn at the
    edge of such a sum may be the next one: of its values 1 in 10,000 may differ, or two.

    Raises:
        ParityError: more values differ.
        UnsupportedGenerator: ONNX Runtime refuses the graph.
    """
    session, latents, start = Session(graph), Latents(dim=model.latent_dim, distribution="uniform"), 0
    differing: dict[str, int] = {}
    for batch in BATCHES:
        z_BZ = latents.draw(start, start + batch)
        labels_B = None if model.target is None else np.arange(start, start + batch) % len(model.classes)
        feeds: dict[str, NDArray[Any]] = {LATENTS_INPUT: z_BZ}
        made = session(feeds if labels_B is None else feeds | {LABELS_INPUT: labels_B})
        drawn = draw_rows(model, z_BZ, labels_B)
        for place in model.order:
            unequal = _unequal(made[tensor_name(place)], drawn[place])
            if unequal:
                name = model.columns[place].name
                differing[name] = differing.get(name, 0) + unequal
        start += batch
    values = start * len(model.order)
    allowed = 0 if model.codes.exact else max(2, int(MOST_DIFFERING * values))
    if sum(differing.values()) > allowed:
        name, count = max(differing.items(), key=lambda one: one[1])
        raise ParityError(
            f"column {name!r} of the exported graph differs from NumPy in {count} of {start} rows, and {allowed} of "
            f"all {values:,} values may; nothing was written. Export with another version of onnxruntime, and report "
            "this one"
        )
    return {
        "runtime": RUNTIME,
        "reference": f"numpy {np.__version__}",
        "tolerance": allowed / values,
        "scale": 1.0,
        "batches": list(BATCHES),
        "samples": start,
        "max_abs_error": 0.0,
        "values_differing": sum(differing.values()) / values,
        "pixels_differing": None,
        "pixels_max_difference": None,
    }


def _unequal(actual: NDArray[Any], wanted: NDArray[Any]) -> int:
    """Return in how many rows a column differs; a missing float, NaN, equals itself."""
    if actual.dtype != wanted.dtype or actual.shape != wanted.shape:
        return len(wanted)
    return int((~equal_values(actual, wanted)).sum())
