"""A transposed convolution of a single pixel is a dense layer: what a DCGAN begins with."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from gen_engine.export.compile.lower.transposed import Transposed, read_transposed
from gen_engine.export.graph import NodeBuilder, known_shape


def lower_to_gemm(model: ir.Model) -> int:
    """Turn every ConvTranspose on a 1×…×1 input, without groups, into Gemm and Reshape."""
    changed = 0
    for node in tuple(model.graph):
        layer = read_transposed(node)
        if layer is None or layer.groups != 1 or set(layer.sizes) != {1}:
            continue
        builder = NodeBuilder(model, node)
        weight, bias = _dense_weight(layer), layer.bias
        inputs = [_flat(builder, layer.input, weight.shape[0]), builder.constant(weight)]
        if bias is not None:
            inputs.append(builder.constant(np.repeat(bias, math.prod(layer.out))))
        dense = builder.op("Gemm", inputs, [None, weight.shape[1]])
        builder.replace(builder.reshape(dense, [layer.channels, *layer.out]))
        changed += 1
    return changed


def _dense_weight(layer: Transposed) -> np.ndarray:
    """Return [I, O · ∏out]: each tap at the position it writes, those that the pads cut away left out."""
    dense = np.zeros((*layer.weight.shape[:2], *layer.out), np.float32)
    for tap in np.ndindex(*layer.kernel):
        place = tuple(t * d - p for t, d, p in zip(tap, layer.dilations, layer.pads, strict=True))
        if all(0 <= o < size for o, size in zip(place, layer.out, strict=True)):
            dense[(slice(None), slice(None), *place)] = layer.weight[(slice(None), slice(None), *tap)]
    return dense.reshape(dense.shape[0], -1)


def _flat(builder: NodeBuilder, value: ir.Value, features: int) -> ir.Value:
    """Return the value as [batch, features]: what it was before it was given its 1×1 axes, if it was that."""
    maker = value.producer()
    if maker is not None and maker.op_type in ("Reshape", "Unsqueeze"):
        before = maker.inputs[0]
        shape = known_shape(before)
        if before is not None and shape is not None and len(shape) == 2 and shape[1] == features:
            return before
    return builder.reshape(value, [features])
