"""Codes drawn from a mixture per class, by alias tables.

Uniforms, in order: two for the component; one for each column's code. Each has the 24 bits of a float32, so a code is
drawn by one (K ≤ 256: 8 bits choose the cell, 16 decide between it and its alias), and a component by two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.tables.alias import alias_of_one, alias_tables, draw
from gen_engine.train.tables.arrays import check_dtypes, check_lengths

ARRAYS: Mapping[str, str] = {
    "components_Y": "int32: components of each class",
    "component_first_Y": "int32: the first of them",
    "component_keep_C": "float32: alias tables of the components of each class",
    "component_alias_C": "int32: places in the class",
    "codes_D": "int32: K of each column",
    "cell_first_D": "int32: where a column's cells begin; those of component c begin c·K later",
    "keep_G": "float32: alias tables of all columns and components",
    "alias_G": "uint8: codes",
}
"""Their dtypes and meaning. C components of all classes, G cells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureCodes:
    """A mixture per class as alias tables."""

    arrays: Mapping[str, NDArray[Any]]
    """See `ARRAYS`."""

    exact: bool = True

    @property
    def latents(self) -> int:
        """Uniforms that it takes."""
        return 2 + len(self.arrays["codes_D"])

    def draw(self, u_ZB: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return codes, int32 [D, B]."""
        a = self.arrays
        inside_B = draw(
            u_ZB[0],
            u_ZB[1],
            a["components_Y"][labels_B],
            a["component_first_Y"][labels_B],
            a["component_keep_C"],
            a["component_alias_C"],
        )
        component_B = a["component_first_Y"][labels_B] + inside_B
        size_D1 = a["codes_D"][:, None]
        first_DB = a["cell_first_D"][:, None] + component_B[None] * size_D1
        return draw(u_ZB[2 : 2 + len(size_D1)], None, size_D1, first_DB, a["keep_G"], a["alias_G"])


def pack_cells(sizes: Sequence[int], frequencies_SC: Sequence[NDArray[np.float64]]) -> dict[str, NDArray[Any]]:
    """Return the alias tables of all columns.

    Args:
        sizes: K of each column.
        frequencies_SC: of each class, rows as the columns' codes one after the other.
    """
    components = sum(one.shape[1] for one in frequencies_SC)
    keep, alias, first, state = [], [], [], 0
    at = 0
    for size in sizes:
        weights_CK = np.concatenate([one[state : state + size].T for one in frequencies_SC])
        keep_CK, alias_CK = alias_tables(weights_CK)
        keep.append(keep_CK.ravel())
        alias.append(alias_CK.astype(np.uint8).ravel())
        first.append(at)
        at += components * size
        state += size
    return {
        "codes_D": np.array(sizes, np.int32),
        "cell_first_D": np.array(first, np.int32),
        "keep_G": np.concatenate(keep),
        "alias_G": np.concatenate(alias),
    }


def pack_components(weights: Sequence[NDArray[np.float64]]) -> dict[str, NDArray[Any]]:
    """Return the alias tables of each class's components."""
    tables = [alias_of_one(one) for one in weights]
    counts = np.array([len(one) for one in weights], np.int32)
    return {
        "components_Y": counts,
        "component_first_Y": (np.cumsum(counts) - counts).astype(np.int32),
        "component_keep_C": np.concatenate([keep for keep, _ in tables]),
        "component_alias_C": np.concatenate([alias for _, alias in tables]),
    }


def load_codes(arrays: Mapping[str, NDArray[Any]], sizes: Sequence[int], classes: int) -> MixtureCodes:
    """Return what stored arrays draw; ValueError unless every look-up is inside them."""
    check_dtypes(arrays, ARRAYS)
    components, states = int(arrays["components_Y"].sum()), sum(sizes)
    lengths = {
        "components_Y": classes,
        "component_first_Y": classes,
        "component_keep_C": components,
        "component_alias_C": components,
        "codes_D": len(sizes),
        "cell_first_D": len(sizes),
        "keep_G": components * states,
        "alias_G": components * states,
    }
    check_lengths(arrays, lengths)
    if arrays["codes_D"].tolist() != list(sizes):
        raise ValueError("its record has other columns")
    return MixtureCodes(arrays=arrays)
