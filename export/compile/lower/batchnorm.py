"""Batch normalisation with stored statistics, folded into the matrix product before it.

y = γ (x − μ) / √(σ² + ε) + β (Ioffe & Szegedy 2015) is a scale and a shift a channel, which the product's weights and
bias can hold. In bf16 it also saves a rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.export.graph import NodeBuilder, attribute, constant, known_shape, only_user

_THROUGH = frozenset({"Reshape", "Unsqueeze"})
"""Between a dense layer and its normalisation: channels become runs of equal length."""


def fold_batchnorm(model: ir.Model) -> int:
    """Fold every BatchNormalization that has a Conv, ConvTranspose, Gemm or MatMul of its own before it."""
    return sum(_fold(model, node) for node in tuple(model.graph) if node.op_type == "BatchNormalization")


def _fold(model: ir.Model, norm: ir.Node) -> bool:
    affine = _affine(norm)
    if affine is None or not norm.inputs:
        return False
    scale_C, shift_C = affine
    value = norm.inputs[0]
    through = False
    while value is not None and (maker := value.producer()) is not None and only_user(value) is not None:
        if maker.op_type in _THROUGH:
            value, through = maker.inputs[0], True
            continue
        run = _run_length(value, len(scale_C)) if through or maker.op_type in ("Gemm", "MatMul") else 1
        if run is None:
            return False
        folded = _scaled(model, maker, np.repeat(scale_C, run), np.repeat(shift_C, run))
        if folded is None:
            return False
        NodeBuilder(model, maker).replace(folded)
        NodeBuilder(model, norm).replace(_input(norm))
        return True
    return False


def _input(norm: ir.Node) -> ir.Value:
    value = norm.inputs[0]
    assert value is not None
    return value


def _affine(norm: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and shift, float64 [C]; None in training mode, or if a statistic is not a constant."""
    arrays = [constant(value) for value in norm.inputs[1:5]]
    if attribute(norm, "training_mode", 0) or any(array is None for array in arrays) or len(norm.outputs) > 1:
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    scale = gamma / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    return scale, beta - mean * scale


def _run_length(value: ir.Value, channels: int) -> int | None:
    """Return how many features of a dense layer's output [B, F] are one channel of what it is reshaped to."""
    shape = known_shape(value)
    if shape is None or len(shape) != 2 or shape[1] is None or shape[1] % channels:
        return None
    return shape[1] // channels


def _scaled(model: ir.Model, node: ir.Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> ir.Value | None:
    """Return the output of a new product whose result is scaled and shifted by channel; None if it cannot be made."""
    weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
    shape = known_shape(node.outputs[0])
    if weight is None or bias is None or shape is None:
        return None
    builder = NodeBuilder(model, node)
    attributes: dict[str, Any] = {name: attr.value for name, attr in node.attributes.items()}
    op_type = node.op_type
    if op_type == "Conv":
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    elif op_type == "ConvTranspose":
        groups = attributes.get("group", 1)
        by_group = weight.reshape(groups, -1, *weight.shape[1:])  # [g, I/g, O/g, k…]
        by_group = by_group * scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        weight = by_group.reshape(weight.shape)
    elif op_type == "Gemm":
        weight = weight * (scale[:, None] if attributes.get("transB", 0) else scale)
        bias = bias * attributes.pop("beta", 1.0)
    elif op_type == "MatMul" and weight.ndim == 2:
        op_type, weight = "Gemm", weight * scale
    else:
        return None
    if op_type == "Gemm" and bias.size > 1 and bias.size != len(scale):
        return None
    bias = np.broadcast_to(bias.reshape(-1), scale.shape) * scale + shift
    inputs = [node.inputs[0], *(builder.constant(array.astype(np.float32)) for array in (weight, bias))]
    return builder.op(op_type, inputs, [None, *shape[1:]], attributes)
