"""What a graph costs: floating-point operations per sample, counted over the shapes that one sample has in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.session import Session

_PRODUCTS = ("Gemm", "MatMul")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_UNCOUNTED = (
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "Einsum",
    "LSTM",
    "GRU",
    "RNN",
    "Attention",
)
"""Operators that multiply matrices in other ways: a count without them would be wrong, so they are refused."""


def count_flops(model: bytes, feeds: Mapping[str, NDArray[Any]]) -> float:
    """Return the multiplications and additions of one sample in the matrix products and convolutions of a graph.

    A multiplication and the addition of its result are two operations. Everything else, such as normalisations and
    activations, takes far fewer and is left out.

    Args:
        model: the ONNX file.
        feeds: inputs of a batch of one sample; shapes are those that they lead to.

    Raises:
        UnsupportedGenerator: the graph has no such operator, or one that is not counted.
    """
    graph = onnx.load_from_string(model).graph
    for node in graph.node:
        if node.op_type in _UNCOUNTED or any(one.type in (one.GRAPH, one.GRAPHS) for one in node.attribute):
            raise UnsupportedGenerator(
                f"the graph's operator {node.op_type} ({node.output[0]}) is not counted, so a speed-up cannot be "
                "stated: give --max-bytes or --width"
            )
    counted = [node for node in graph.node if node.op_type in (*_PRODUCTS, *_CONVOLUTIONS)]
    needed = sorted({name for node in counted for name in (*node.input[:2], node.output[0])})
    shapes = {name: value.shape for name, value in values_of(model, needed, feeds).items()}
    total = float(sum(_flops(node, shapes) for node in counted))
    if not total:
        raise UnsupportedGenerator("the graph has no matrix product and no convolution: there is nothing to speed up")
    return total


def values_of(model: bytes, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run a graph and return values inside it, by name."""
    proto = onnx.load_from_string(model)
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer if one.name in names}
    feeds = {one.name: feeds[one.name] for one in proto.graph.input if one.name in feeds}
    found: dict[str, NDArray[Any]] = {**weights, **{name: feeds[name] for name in names if name in feeds}}
    present = {one.name for one in proto.graph.output}
    for name in names:
        if name not in found and name not in present:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    made = Session(proto.SerializeToString())(feeds)
    return found | {name: np.asarray(made[name]) for name in names if name not in found}


def _flops(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    first, second, output = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Gemm":
        transposed = any(one.name == "transA" and one.i for one in node.attribute)
        return 2 * prod(output) * first[0 if transposed else 1]
    if node.op_type == "MatMul":
        return 2 * prod(output) * first[-1]
    # Weights are [O, I / groups, …] of a convolution, applied once per output cell; of a transposed one
    # [I, O / groups, …], applied once per input cell.
    cells = output if node.op_type == "Conv" else first
    return 2 * prod(second) * prod(cells[2:])
