"""From a table that was read to a model of it: types, codes, a mixture per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.tables import mixture
from gen_engine.train.tables.classes import Classes, classes_of, components_of, one_class, split
from gen_engine.train.tables.coding import Coding, fit_coding
from gen_engine.train.tables.decide import Decision
from gen_engine.train.tables.generator import GROUPS, ColumnSpec, TableModel
from gen_engine.train.tables.options import MixtureOptions
from gen_engine.train.tables.pack import column_spec, pack_cells, pack_components, pack_values
from gen_engine.train.tables.values import read_values

MOST_CELLS = 1 << 27
"""Probabilities of a model, over all components: 5 bytes each in a bundle."""

OnStep = Callable[[str, int, float], None]
"""Is given a class's name, the step and the log likelihood in nats per row."""

FitModel = Callable[["Coded", "str | None", MixtureOptions, int, OnStep], "tuple[TableModel, dict[str, float]]"]
"""A family of models of tables: `fit_model` is one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """The columns that are generated, in the order of GROUPS."""

    specs: tuple[ColumnSpec, ...]
    codings: tuple[Coding, ...]
    codes_ND: NDArray[np.int32]
    order: tuple[int, ...]
    """Places of the table's columns in `specs`."""

    classes: Classes


def code_columns(kept: Any, decisions: Sequence[Decision], target: str | None, source: str) -> Coded:
    """Return the codes of all columns but the target, whose classes are beside them.

    Args:
        kept: `pyarrow.Table`.
        decisions: of its columns.
        target: the column that classes are made of.
        source: what messages call the table.

    Raises:
        DataError: a value is not of its column's type; or no column is left.
        ConfigError: the target is of a type that has no classes.
    """
    classes = one_class(kept.num_rows)
    found: list[tuple[ColumnSpec, Coding, NDArray[np.int32]]] = []
    for one in decisions:
        if one.type == "drop":
            continue
        values = read_values(kept.column(one.name), one)
        if one.name != target:
            coding, codes_N = fit_coding(values)
            found.append((column_spec(one, values, coding), coding, codes_N))
            continue
        if values.kind not in ("category", "boolean", "integer"):
            raise ConfigError(
                f"--target {target}: it is {values.kind}, and classes are made of categories, booleans or integers; "
                f"declare it with --column {target}=category, or leave --target out"
            )
        classes = classes_of(one.name, values, values.categories if values.kind == "category" else None, source)
    if not found:
        reasons = "; ".join(one.note() for one in decisions if one.type == "drop")
        raise DataError(f"{source} has no column to model besides the target. {reasons}")
    places = sorted(range(len(found)), key=lambda place: GROUPS.index(found[place][0].group))
    specs, codings, codes = zip(*(found[place] for place in places), strict=True)
    order = np.argsort(places).tolist()
    return Coded(specs=specs, codings=codings, codes_ND=np.stack(codes, axis=1), order=tuple(order), classes=classes)


def fit_model(
    coded: Coded, target: str | None, options: MixtureOptions, seed: int, on_step: OnStep
) -> tuple[TableModel, dict[str, float]]:
    """Return the model of coded rows, and figures of the fit.

    Raises:
        ConfigError: there are more components than one file can hold.
    """
    sizes = [one.codes for one in coded.specs]
    counts = [len(rows) for rows in coded.classes.rows_Y]
    components = components_of(counts, options.components)
    cells = sum(components) * sum(sizes)
    if cells > MOST_CELLS:
        most = MOST_CELLS // sum(sizes)
        raise ConfigError(
            f"{sum(components):,} components of {sum(sizes):,} codes are {cells:,} probabilities, and at most "
            f"{MOST_CELLS:,} are fitted: give --components {most} or fewer"
        )
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    fits = []
    for name, rows, count in zip(coded.classes.names, coded.classes.rows_Y, components, strict=True):
        codes_ND = coded.codes_ND[rows]
        fitted, held = split(np.arange(len(rows)), rng)
        fits.append(
            mixture.fit(
                mixture.Rows(codes_ND[fitted], sizes),
                torch.from_numpy(_frequencies(codes_ND, sizes)),
                count,
                smoothing=options.smoothing,
                steps=options.em_steps,
                seed=seed,
                held_out=mixture.Rows(codes_ND[held], sizes) if len(held) else None,
                on_step=lambda step, value, name=name: on_step(name, step, value),  # type: ignore[misc]
            )
        )
    arrays = pack_cells(sizes, [one.frequencies_SC.numpy() for one, _ in fits])
    arrays |= pack_components([one.weights_C.numpy() for one, _ in fits]) | pack_values(coded.specs, coded.codings)
    model = TableModel(
        columns=coded.specs,
        order=coded.order,
        target=target,
        classes=coded.classes.names,
        class_weights=coded.classes.shares,
        arrays=arrays,
    )
    return model, _figures([one for _, one in fits], coded.classes.shares, [len(m.weights_C) for m, _ in fits])


def _frequencies(codes_ND: NDArray[np.int32], sizes: Sequence[int]) -> NDArray[np.float64]:
    """The frequencies of a class: of all columns' codes, float64 [S]."""
    parts = [np.bincount(codes_ND[:, place], minlength=size) for place, size in enumerate(sizes)]
    made: NDArray[np.float64] = np.concatenate(parts) / len(codes_ND)
    return made


def _figures(fits: Sequence[mixture.Fit], shares: Sequence[float], components: Sequence[int]) -> dict[str, float]:
    """Means over the classes, weighted by their shares."""
    figures = {
        "components": float(sum(components)),
        "steps": float(max(one.steps for one in fits)),
        "log_likelihood": sum(one.log_likelihood * share for one, share in zip(fits, shares, strict=True)),
    }
    held = [(one.held_out, share) for one, share in zip(fits, shares, strict=True) if one.held_out is not None]
    if held:
        figures["log_likelihood_held_out"] = sum(v * share for v, share in held) / sum(share for _, share in held)
    return figures
