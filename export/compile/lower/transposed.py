"""A transposed convolution's attributes, as ONNX defines them (operator ConvTranspose, version 22)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.export.graph import attribute, constant, known_shape


@dataclass(frozen=True, kw_only=True)
class Transposed:
    """One ConvTranspose whose weights and sizes are known. Sequences have an entry for each spatial axis.

    Output position o gets from input position i by tap t: o = i · stride + t · dilation − pad.
    """

    input: ir.Value
    weight: NDArray[np.float32]
    """[I, O / groups, *kernel]"""

    bias: NDArray[np.float32] | None
    groups: int
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """At the begin of each axis; how much is cut at the end is in ``out``."""

    sizes: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps along each axis."""
        return tuple(self.weight.shape[2:])

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return int(self.weight.shape[1]) * self.groups


def read_transposed(node: ir.Node) -> Transposed | None:
    """Return a ConvTranspose's parameters; None if it is something else, or a size or weight is not known."""
    if node.op_type != "ConvTranspose":
        return None
    value, weight = node.inputs[0], constant(node.inputs[1])
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    shape, out_shape = known_shape(value), known_shape(node.outputs[0])
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    if value is None or weight is None or shape is None or out_shape is None or (has_bias and bias is None):
        return None
    axes = weight.ndim - 2
    sizes, out = _numbers(shape[2:]), _numbers(out_shape[2:])
    strides = tuple(attribute(node, "strides", [1] * axes))
    dilations = tuple(attribute(node, "dilations", [1] * axes))
    pads = _begin_pads(node, sizes, strides, dilations, tuple(weight.shape[2:]), out)
    return Transposed(
        input=value,
        weight=weight,
        bias=bias,
        groups=attribute(node, "group", 1),
        strides=strides,
        dilations=dilations,
        pads=pads,
        sizes=sizes,
        out=out,
    )


def _numbers(sizes: list[int | None]) -> tuple[int, ...]:
    return tuple(size for size in sizes if size is not None)


def _begin_pads(
    node: ir.Node,
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    kernel: tuple[int, ...],
    out: tuple[int, ...],
) -> tuple[int, ...]:
    """Return the pads at the begin: as given, or as ``output_shape`` and ``auto_pad`` imply."""
    auto = attribute(node, "auto_pad", "NOTSET")
    axes = len(sizes)
    if auto in ("NOTSET", "VALID") and "output_shape" not in node.attributes:
        return tuple(attribute(node, "pads", [0] * 2 * axes)[:axes]) if auto == "NOTSET" else (0,) * axes
    extra = attribute(node, "output_padding", [0] * axes)
    begins = []
    for i, s, d, k, o, op in zip(sizes, strides, dilations, kernel, out, extra, strict=True):
        total = s * (i - 1) + op + (k - 1) * d + 1 - o
        begins.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    return tuple(begins)
