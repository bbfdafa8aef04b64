"""Codes drawn from the probabilities that a network makes of a row's latents, each by one uniform.

Latents z follow the logistic distribution, whose inverse distribution function is log u − log(1 − u). A column's code
is the inverse of its cumulative distribution: how many of the cumulated exponentials of its logits are at most u times
their sum. There is no softmax to divide by, and one uniform a column instead of one per code.

Uniforms, in order: those of z; two for a condition where there are conditions; one for each column, by the groups.

Shape suffixes: L latents, H hidden values, W width of a group, P all codes with their padding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.tables.alias import draw
from gen_engine.train.tables.arrays import check_dtypes
from gen_engine.train.tables.networks.layout import Group, groups_of

EDGE = np.float32(2.0**-24)
"""Least distance of a uniform from 0 and 1 when its logarithms are taken."""

LARGEST = np.float32(30.0)
"""Of a logit, and minus the least: its exponential, and the sum of 256 of them, are far from the limits of float32."""

PADDING = np.float32(-1e4)
"""Bias of what is no code."""

MOST, MOST_LAYERS = np.float32(1e6), 4
"""Largest stored value, and layers after the first: their products stay finite."""

CONDITIONS: Mapping[str, str] = {
    "condition_CH": "float32: what each condition adds to the first layer",
    "condition_keep_YC": "float32: alias tables of the conditions of each class",
    "condition_alias_YC": "int32",
}
"""Arrays of a network that has conditions: codes of a column for a GAN, components of z's distribution for a VAE."""

SCALE = "condition_scale_CL"
"""Perhaps another of them, float32: what z is multiplied by under each condition."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkCodes:
    """Layers of a network, the first of z, the last of all columns' codes."""

    arrays: Mapping[str, NDArray[Any]]
    """`latents_HL` and `class_YH`, what z and the class add up to in the first layer; `weight1`, `bias1` and so on, of
    the others, [out, in] and [out]; perhaps CONDITIONS. All but alias tables float32."""

    sizes: tuple[int, ...]
    """K of each column."""

    exact: bool = False

    @property
    def groups(self) -> tuple[Group, ...]:
        """How the last layer's values belong to columns."""
        return groups_of(self.sizes)

    @property
    def layers(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Weights and biases after the first layer."""
        count = sum(name.startswith("weight") for name in self.arrays)
        return [(self.arrays[f"weight{place}"], self.arrays[f"bias{place}"]) for place in range(1, count + 1)]

    @property
    def size(self) -> int:
        """Latents of z."""
        return int(self.arrays["latents_HL"].shape[1])

    @property
    def conditional(self) -> bool:
        """Whether there are conditions."""
        return "condition_CH" in self.arrays

    @property
    def latents(self) -> int:
        """Uniforms that it takes."""
        return self.size + 2 * self.conditional + len(self.sizes)

    def draw(self, u_ZB: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return codes, int32 [D, B]."""
        a = self.arrays
        u_LB = np.clip(u_ZB[: self.size], EDGE, np.float32(1) - EDGE)
        z_LB, added_HB = np.log(u_LB) - np.log(np.float32(1) - u_LB), a["class_YH"][labels_B].T
        if self.conditional:
            chosen_B = self._conditions(u_ZB[self.size : self.size + 2], labels_B)
            added_HB = added_HB + a["condition_CH"][chosen_B].T
            z_LB = z_LB * a[SCALE][chosen_B].T if SCALE in a else z_LB
        value_HB = a["latents_HL"] @ z_LB + added_HB
        for weight, bias in self.layers:
            value_HB = weight @ np.maximum(value_HB, np.float32(0)) + bias[:, None]
        return self._draw_columns(value_HB, u_ZB[self.latents - len(self.sizes) :])

    def _conditions(self, u_2B: NDArray[np.float32], labels_B: NDArray[np.int64]) -> NDArray[np.int32]:
        keep, alias = self.arrays["condition_keep_YC"], self.arrays["condition_alias_YC"]
        size = np.full(len(labels_B), keep.shape[1], np.int32)
        return draw(u_2B[0], u_2B[1], size, labels_B.astype(np.int32) * size, keep.ravel(), alias.ravel())

    def _draw_columns(self, logits_PB: NDArray[np.float32], u_DB: NDArray[np.float32]) -> NDArray[np.int32]:
        codes_DB = np.empty((len(self.sizes), logits_PB.shape[1]), np.int32)
        first, slot = 0, 0
        for group in self.groups:
            count, sizes = len(group.columns), np.array([self.sizes[one] for one in group.columns])
            logits_CWB = logits_PB[first : first + group.values].reshape(count, group.width, -1)
            sums_CWB = np.exp(np.clip(logits_CWB, -LARGEST, LARGEST)).cumsum(axis=1, dtype=np.float32)
            limit_CB = u_DB[slot : slot + count] * sums_CWB[:, -1]
            codes_CB = (sums_CWB <= limit_CB[:, None]).sum(axis=1).astype(np.int32)
            codes_DB[list(group.columns)] = np.minimum(codes_CB, sizes[:, None] - 1)
            first, slot = first + group.values, slot + count
        return codes_DB


def load_codes(arrays: Mapping[str, NDArray[Any]], sizes: Sequence[int], classes: int) -> NetworkCodes:
    """Return what stored arrays draw; ValueError unless their shapes fit each other, and their values are finite."""
    layers = sorted(int(name[6:]) for name in arrays if re.fullmatch(r"weight[1-9]\d?", name))
    meanings: dict[str, str] = {"latents_HL": "float32:", "class_YH": "float32:"}
    meanings |= {f"{part}{place}": "float32:" for place in range(1, len(layers) + 1) for part in ("weight", "bias")}
    if any(name in arrays for name in CONDITIONS):
        meanings |= CONDITIONS
    if SCALE in arrays:
        meanings |= {SCALE: "float32:"}
    axes = {name: 1 if name.startswith("bias") else 2 for name in meanings}
    check_dtypes(arrays, meanings, axes=axes)
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ValueError(f"it has {len(layers)} layers after the first, not 1 to {MOST_LAYERS}")
    values = len(arrays["latents_HL"])
    shapes: dict[str, tuple[int, ...]] = {"class_YH": (classes, values)}
    for place in range(1, len(layers) + 1):
        out = sum(group.values for group in groups_of(sizes)) if place == len(layers) else len(arrays[f"bias{place}"])
        shapes |= {f"weight{place}": (out, values), f"bias{place}": (out,)}
        values = out
    if "condition_CH" in arrays:
        conditions, hidden = len(arrays["condition_CH"]), len(arrays["latents_HL"])
        shapes |= {"condition_CH": (conditions, hidden)}
        shapes |= {SCALE: (conditions, arrays["latents_HL"].shape[1])} if SCALE in arrays else {}
        shapes |= dict.fromkeys(("condition_keep_YC", "condition_alias_YC"), (classes, conditions))
        alias = arrays["condition_alias_YC"]
        if not conditions or (alias < 0).any() or (alias >= conditions).any():
            raise ValueError("it has no conditions, or draws others")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has the shape {list(arrays[name].shape)}, not {list(shape)}")
    for name, array in arrays.items():
        if array.dtype == np.float32 and not (np.abs(array) <= MOST).all():
            raise ValueError(f"{name} has a value that is not finite, or above {MOST:g}")
    return NetworkCodes(arrays=arrays, sizes=tuple(sizes))
