"""A convolution's attributes, as ONNX defines them (operator Conv, version 22)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.export.graph import attribute, constant, known_shape


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One Conv of stride 1 whose weights and sizes are known. Sequences have an entry for each spatial axis.

    Output position o reads by tap t input position o − pad + t · dilation.
    """

    input: ir.Value
    weight: NDArray[np.float32]
    """[O, I / groups, *kernel]"""

    bias: NDArray[np.float32] | None
    groups: int
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """At the begin of each axis; how many are at the end is in ``out``."""

    out: tuple[int, ...]

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps along each axis."""
        return tuple(self.weight.shape[2:])

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return int(self.weight.shape[0])


def read_convolution(node: ir.Node) -> Convolution | None:
    """Return a Conv's parameters; None if it is something else, has strides, or a size or weight is not known."""
    if node.op_type != "Conv":
        return None
    value, weight = node.inputs[0], constant(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias, shape, out_shape = constant(given), known_shape(value), known_shape(node.outputs[0])
    if value is None or weight is None or shape is None or out_shape is None or (given is not None and bias is None):
        return None
    axes = weight.ndim - 2
    if set(attribute(node, "strides", [1] * axes)) != {1}:
        return None
    sizes, out = (tuple(size for size in whole[2:] if size is not None) for whole in (shape, out_shape))
    dilations = tuple(attribute(node, "dilations", [1] * axes))
    return Convolution(
        input=value,
        weight=weight,
        bias=bias,
        groups=attribute(node, "group", 1),
        dilations=dilations,
        pads=_begin_pads(node, sizes, out, dilations, tuple(weight.shape[2:])),
        out=out,
    )


def _begin_pads(
    node: ir.Node,
    sizes: tuple[int, ...],
    out: tuple[int, ...],
    dilations: tuple[int, ...],
    kernel: tuple[int, ...],
) -> tuple[int, ...]:
    """Return the pads at the begin: given, or what ``auto_pad`` comes to."""
    auto, axes = attribute(node, "auto_pad", "NOTSET"), len(sizes)
    if auto == "NOTSET":
        return tuple(attribute(node, "pads", [0] * 2 * axes)[:axes])
    totals = [o + (k - 1) * d - size for size, o, d, k in zip(sizes, out, dilations, kernel, strict=True)]
    return tuple(total - total // 2 if auto == "SAME_LOWER" else total // 2 for total in totals)
