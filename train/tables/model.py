"""A model of a table: what draws codes, and the arrays that turn them into values. All families share this.

Latents, in order: those that the codes take, then those of :mod:`gen_engine.train.tables.decode`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.columns import ColumnSpec
from gen_engine.train.tables.constraints.steps import Step
from gen_engine.train.tables.decode import decode, value_latents
from gen_engine.train.tables.options import TableOptions


class Codes(Protocol):
    """Draws the codes of rows. `gen_engine.export.tables.codes` makes a graph of it, by its type."""

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What it is stored as."""

    @property
    def latents(self) -> int:
        """Uniforms that a row's codes take."""

    @property
    def exact(self) -> bool:
        """Whether its graph draws the same codes in every runtime: nothing in it is a sum of floats."""

    def draw(self, u_ZB: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return codes, int32 [D, B].

        Args:
            u_ZB: float32 over [0, 1], `latents` rows.
            labels_B: classes; zeros without a target.
        """


OnStep = Callable[[int, Mapping[str, float]], None]
"""Is given the step of a fit and its figures by name."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models of tables: an entry of `gen_engine.train.families.TABLE_MODELS`."""

    fit: Callable[[Coded, Any, OnStep], tuple[Codes, dict[str, float]]]
    """Fits to coded rows by the family's options; also returns figures of the fit. Raises ConfigError."""

    load: Callable[[Mapping[str, NDArray[Any]], Sequence[int], int], Codes]
    """Makes of stored arrays, the codes of each column and the count of classes what draws; ValueError unless every
    look-up is inside the arrays."""

    options: type[TableOptions] = TableOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class TableModel:
    """What draws codes, and the columns that they are values of."""

    columns: tuple[ColumnSpec, ...]
    """In the order of GROUPS, and in a group in that of the table: column d of the codes."""

    order: tuple[int, ...]
    """Places of the table's columns in `columns`. The others are modelled for the constraints' sake, and no output."""

    target: str | None
    """Name of the column that the classes are values of; it is not among the columns."""

    classes: tuple[str, ...]
    """Its values, or one empty name without a target."""

    class_weights: tuple[float, ...]
    """Shares of the rows."""

    codes: Codes

    values: Mapping[str, NDArray[Any]]
    """See `gen_engine.train.tables.decode.VALUE_ARRAYS`."""

    steps: tuple[Step, ...] = ()
    """From these values to values that satisfy the constraints."""

    @property
    def latent_dim(self) -> int:
        """Z."""
        return self.codes.latents + value_latents(self.columns)

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in (*self.codes.arrays.values(), *self.values.values()))


def uniforms(latents_BZ: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return latents over (-1, 1) as uniforms over [0, 1], [Z, B]: a column's values are then contiguous."""
    return np.ascontiguousarray((latents_BZ.T + np.float32(1.0)) * np.float32(0.5))


def draw_rows(
    model: TableModel, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None = None
) -> list[NDArray[Any]]:
    """Return rows, a column of its field's dtype [B] for each of `model.columns`.

    Args:
        model: the model.
        latents_BZ: float32 [B, Z] over (-1, 1).
        labels_B: classes; None without a target.
    """
    labels_B = np.zeros(len(latents_BZ), np.int64) if labels_B is None else labels_B
    u_ZB = uniforms(latents_BZ)
    codes_DB = model.codes.draw(u_ZB[: model.codes.latents], labels_B)
    return decode(model.columns, model.values, codes_DB, u_ZB[model.codes.latents :], model.steps)
