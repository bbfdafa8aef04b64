"""Codes drawn one column after the other, each from the leaf of a decision tree over the columns before it.

Nodes of all trees are numbered together. A node sends a row to its left child where the row's code of one column is at
most a threshold, else to the right one, which is next to it. A leaf is its own left child and its threshold is above
all codes, so that walks of every length take a fixed number of steps. A leaf's codes are drawn by an alias table of
the codes that occur in it.

Uniforms: one for each column's code, in the order in which they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.tables.arrays import check_dtypes, check_lengths

NEVER = 1 << 20
"""Threshold of a leaf. Above all codes and classes."""

ARRAYS: Mapping[str, str] = {
    "order_D": "int32: columns in the order in which they are drawn",
    "root_D": "int32: the first node of each of their trees",
    "depth_D": "int32: the longest walk in it",
    "feature_M": "int32: what a node compares: 0 the class, 1 the column drawn first, 2 the second",
    "threshold_M": "int32: the greatest code that goes left",
    "left_M": "int32: the node's left child",
    "cell_first_M": "int32: where a leaf's cells begin",
    "cells_M": "int32: how many it has",
    "keep_G": "float32: probability of a cell's own code",
    "code_G": "uint8: that code",
    "other_G": "uint8: its code otherwise",
}
"""Their dtypes and meaning. M nodes, G cells of leaves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeCodes:
    """A tree for each column."""

    arrays: Mapping[str, NDArray[Any]]
    """See `ARRAYS`."""

    exact: bool = True

    @property
    def latents(self) -> int:
        """Uniforms that it takes."""
        return len(self.arrays["order_D"])

    def draw(self, u_ZB: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return codes, int32 [D, B]."""
        a = self.arrays
        drawn_FB = np.zeros((1 + self.latents, len(labels_B)), np.int32)
        drawn_FB[0] = labels_B
        columns = np.arange(len(labels_B))
        for step, (root, depth) in enumerate(zip(a["root_D"].tolist(), a["depth_D"].tolist(), strict=True)):
            node_B = np.full(len(labels_B), root, np.int32)
            for _ in range(depth):
                code_B = drawn_FB[a["feature_M"][node_B], columns]
                node_B = a["left_M"][node_B] + (code_B > a["threshold_M"][node_B])
            drawn_FB[step + 1] = self._draw_cell(node_B, u_ZB[step])
        return drawn_FB[1 + np.argsort(a["order_D"])]

    def _draw_cell(self, node_B: NDArray[np.int32], u_B: NDArray[np.float32]) -> NDArray[np.uint8]:
        a = self.arrays
        size_B = a["cells_M"][node_B]
        scaled_B = u_B * size_B.astype(np.float32)
        cell_B = np.minimum(np.floor(scaled_B).astype(np.int32), size_B - 1)
        place_B = a["cell_first_M"][node_B] + cell_B
        fraction_B = scaled_B - cell_B.astype(np.float32)
        drawn: NDArray[np.uint8] = np.where(
            fraction_B < a["keep_G"][place_B], a["code_G"][place_B], a["other_G"][place_B]
        )
        return drawn


def load_codes(arrays: Mapping[str, NDArray[Any]], sizes: Sequence[int], classes: int) -> TreeCodes:
    """Return what stored arrays draw; ValueError unless every walk ends at a leaf of its tree, with codes below K."""
    check_dtypes(arrays, ARRAYS)
    nodes, cells, columns = len(arrays["left_M"]), len(arrays["keep_G"]), len(sizes)
    per_node = dict.fromkeys(("feature_M", "threshold_M", "cell_first_M", "cells_M"), nodes)
    lengths = dict.fromkeys(("order_D", "root_D", "depth_D"), columns)
    check_lengths(arrays, lengths | per_node | {"code_G": cells, "other_G": cells})
    order, roots = arrays["order_D"], arrays["root_D"]
    ends = np.append(roots[1:], nodes)
    if sorted(order.tolist()) != list(range(columns)) or roots[0] != 0 or (roots >= ends).any():
        raise ValueError("its trees are not in order")
    step_M = np.repeat(np.arange(columns), ends - roots)
    _check_nodes(arrays, step_M, ends[step_M])
    size_M = np.array(sizes, np.int64)[order][step_M]
    first_M, count_M = arrays["cell_first_M"].astype(np.int64), arrays["cells_M"].astype(np.int64)
    if (count_M < 1).any() or (first_M < 0).any() or (first_M + count_M > cells).any():
        raise ValueError("the cells of its leaves are not inside their array")
    leaves = arrays["left_M"] == np.arange(nodes)
    owner_G = np.repeat(size_M[leaves], count_M[leaves])
    begins = np.concatenate([[0], np.cumsum(count_M[leaves])])
    if len(owner_G) != cells or (first_M[leaves] != begins[:-1]).any():
        raise ValueError("its leaves have other cells")
    if (arrays["code_G"] >= owner_G).any() or (arrays["other_G"] >= owner_G).any():
        raise ValueError("its leaves draw codes that their columns do not have")
    return TreeCodes(arrays=arrays)


def _check_nodes(arrays: Mapping[str, NDArray[Any]], step_M: NDArray[np.int64], end_M: NDArray[np.int32]) -> None:
    """ValueError unless every walk goes on, inside its tree, to a leaf, by columns that are drawn before."""
    left_M, feature_M, depth_D = arrays["left_M"].astype(np.int64), arrays["feature_M"], arrays["depth_D"]
    place_M = np.arange(len(left_M))
    inner = left_M != place_M
    if (left_M < place_M).any() or (left_M[inner] + 1 >= end_M[inner]).any():
        raise ValueError("its trees have nodes that lead out of them")
    if (arrays["threshold_M"][~inner] != NEVER).any() or (feature_M < 0).any() or (feature_M > step_M).any():
        raise ValueError("its trees compare what is not drawn before")
    level_M = np.zeros(len(left_M), np.int64)
    for place in np.flatnonzero(inner).tolist():  # children come after their parents
        level_M[left_M[place] : left_M[place] + 2] = level_M[place] + 1
    deepest_D = np.zeros(len(depth_D), np.int64)
    np.maximum.at(deepest_D, step_M, level_M)
    if (deepest_D != depth_D).any():
        raise ValueError("its trees have another depth")
