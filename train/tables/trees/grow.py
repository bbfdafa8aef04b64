"""Trees grown on coded rows: sequential synthesis by classification trees.

Each column's distribution given those before it is a tree of Breiman et al. (1984), and its samples are drawn from the
rows of a leaf, as Reiter (2005, "Using CART to generate partially synthetic public use microdata", Journal of Official
Statistics 21) does. Codes are compared as numbers: those of a numeric column are in its order.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.alias import alias_tables
from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.model import Family, OnStep
from gen_engine.train.tables.options import TreesOptions
from gen_engine.train.tables.trees.codes import NEVER, TreeCodes, load_codes

MOST_COLUMNS = 500
"""A tree may ask all columns before its own, so the work grows with the square of their number."""


def fit_codes(coded: Coded, options: TreesOptions, on_step: OnStep) -> tuple[TreeCodes, dict[str, float]]:
    """Return a tree for each column of coded rows, and figures of the fit.

    Raises:
        ConfigError: there are too many columns.
    """
    count, columns = coded.codes_ND.shape
    if columns > MOST_COLUMNS:
        raise ConfigError(
            f"{columns:,} columns, and trees are grown for at most {MOST_COLUMNS}: use --model mixture, or leave "
            "columns out with --column NAME=drop"
        )
    order = draw_order([one.codes for one in coded.specs])
    rows_NF = np.zeros((count, 1 + columns), np.float32)
    for place, rows in enumerate(coded.classes.rows_Y):
        rows_NF[rows, 0] = place
    used = np.concatenate(coded.classes.rows_Y)
    rows_NF[:, 1:] = coded.codes_ND[:, order]
    rows_NF = rows_NF[np.sort(used)]
    trees, total = [], 0.0
    for step in range(columns):
        tree, log_likelihood = _grow(rows_NF[:, : step + 1], rows_NF[:, step + 1].astype(np.int64), options, step)
        trees.append(tree)
        total += log_likelihood
        on_step(step + 1, {"log likelihood": total})
    arrays = _join(trees) | {"order_D": np.array(order, np.int32)}
    return TreeCodes(arrays=arrays), {
        "leaves": float((arrays["left_M"] == np.arange(len(arrays["left_M"]))).sum()),
        "depth": float(arrays["depth_D"].max()),
        "log_likelihood": total,
    }


def draw_order(sizes: Sequence[int]) -> list[int]:
    """Return the places of columns by how many codes they have: a split of many codes then costs few rows."""
    return sorted(range(len(sizes)), key=lambda place: sizes[place])


def _grow(
    before_NF: NDArray[np.float32], codes_N: NDArray[np.int64], options: TreesOptions, step: int
) -> tuple[dict[str, NDArray[Any]], float]:
    """Return the arrays of a column's tree, nodes and cells numbered from 0, and its log likelihood in nats per row."""
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(
        min_samples_leaf=min(options.min_leaf, len(codes_N)),
        max_depth=options.max_depth,
        random_state=(options.seed * 1_000 + step) % 2**32,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")  # codes of few rows may all differ
        grown = tree.fit(before_NF, codes_N)
    place_M, nodes = _breadth_first(grown.tree_)
    leaf_N = place_M[grown.apply(before_NF)]
    cells, log_likelihood = _cells(leaf_N, codes_N, len(place_M))
    return nodes | cells, log_likelihood


def _breadth_first(tree: Any) -> tuple[NDArray[np.int32], dict[str, NDArray[Any]]]:
    """Number the nodes so that the right child follows the left one; return their new places and the nodes."""
    left, right = tree.children_left, tree.children_right
    ordered, level, depth = [0], [0], -1
    while level:
        level = [child for node in level if left[node] >= 0 for child in (int(left[node]), int(right[node]))]
        ordered += level
        depth += 1
    place_M = np.empty(len(left), np.int32)
    place_M[ordered] = np.arange(len(left))
    inner = left[ordered] >= 0
    nodes = {
        "feature_M": np.where(inner, tree.feature[ordered], 0).astype(np.int32),
        # Codes are whole numbers, so a threshold between two is the lower one.
        "threshold_M": np.where(inner, np.floor(tree.threshold[ordered]), NEVER).astype(np.int32),
        "left_M": np.where(inner, place_M[left[ordered]], np.arange(len(left))).astype(np.int32),
        "depth_D": np.array([depth], np.int32),
    }
    return place_M, nodes


def _cells(leaf_N: NDArray[np.int32], codes_N: NDArray[np.int64], nodes: int) -> tuple[dict[str, NDArray[Any]], float]:
    """Return the alias tables of the leaves, of the codes that occur in each, and the log likelihood of the rows."""
    pairs_G, rows_G = np.unique(leaf_N.astype(np.int64) << 8 | codes_N, return_counts=True)
    leaf_G, code_G = (pairs_G >> 8).astype(np.int64), (pairs_G & 255).astype(np.uint8)
    cells_M = np.bincount(leaf_G, minlength=nodes)
    first_M = np.cumsum(cells_M) - cells_M
    keep_G, other_G = np.ones(len(code_G), np.float32), code_G.copy()
    for size in np.unique(cells_M[cells_M > 1]).tolist():
        at_LK = first_M[cells_M == size][:, None] + np.arange(size)
        keep_LK, alias_LK = alias_tables(rows_G[at_LK].astype(np.float64))
        keep_G[at_LK], other_G[at_LK] = keep_LK, np.take_along_axis(code_G[at_LK], alias_LK, axis=1)
    rows_M = np.bincount(leaf_G, rows_G, minlength=nodes)
    log_likelihood = float((rows_G * np.log(rows_G / rows_M[leaf_G])).sum() / len(codes_N))
    inner = cells_M == 0  # no row ends there; one cell, so that sizes are positive
    arrays = {
        "cell_first_M": np.where(inner, 0, first_M).astype(np.int32),
        "cells_M": np.where(inner, 1, cells_M).astype(np.int32),
        "keep_G": keep_G,
        "code_G": code_G,
        "other_G": other_G,
    }
    return arrays, log_likelihood


def _join(trees: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of all trees, nodes and cells numbered together."""
    nodes = np.array([len(tree["left_M"]) for tree in trees])
    cells = np.array([len(tree["keep_G"]) for tree in trees])
    first, first_cell = np.cumsum(nodes) - nodes, np.cumsum(cells) - cells
    joined = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    joined["left_M"] = joined["left_M"] + np.repeat(first, nodes).astype(np.int32)
    # A node that is no leaf keeps cell 0, which every model has.
    is_leaf = joined["left_M"] == np.arange(len(joined["left_M"]))
    joined["cell_first_M"] = joined["cell_first_M"] + np.where(is_leaf, np.repeat(first_cell, nodes), 0).astype(
        np.int32
    )
    return joined | {"root_D": first.astype(np.int32)}


TREES = Family(fit=fit_codes, load=load_codes, options=TreesOptions)
