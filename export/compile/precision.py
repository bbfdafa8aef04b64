"""A graph in another precision, stated in its types: strongly typed, so that no runtime option is needed.

Matrix products and everything before them take the new type; what follows the last one (the final activation, the
conversion to pixels) stays fp32, since rounding would be visible there. Inputs and outputs keep their types.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import version_converter
from onnx_ir.passes.common import (
    CheckerPass,
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveUnusedNodesPass,
)

from gen_engine.engine.base.files import MODEL, read_bounded
from gen_engine.export.errors import UnsupportedGenerator

CASTS = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
"""Precisions that are a type of the graph. fp32 is the canonical graph's own, int8 needs :func:`quantize`."""

PRECISIONS = ("fp32", *CASTS, "int8")

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that take nearly all the time, and that have kernels in other precisions."""

_BF16_OPSET = 22
"""The first operator set whose convolutions may be bf16."""

_ALWAYS_FP32 = {"Resize": frozenset({1, 2})}
"""Inputs whose type the operator fixes: the region and the scales of a Resize."""


def cast(model: bytes, precision: str) -> bytes:
    """Return the graph with its matrix products in ``fp16`` or ``bf16``; ``fp32`` returns it as it is.

    The same graph makes the same bytes.

    Raises:
        ValueError: the precision is not a type of a graph.
        UnsupportedGenerator: a weight is too large for fp16, or the graph has no matrix product to cast.
    """
    if precision == "fp32":
        return model
    if precision not in CASTS:
        raise ValueError(f"precision {precision!r} is not a type of a graph: known are fp32, {', '.join(CASTS)}")
    proto = onnx.load_from_string(model)
    if precision == "bf16" and _opset(proto) < _BF16_OPSET:
        proto = version_converter.convert_version(proto, _BF16_OPSET)
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(proto))  # the caster needs every value's type
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    _Caster(graph.graph, CASTS[precision], precision).run()
    RemoveUnusedNodesPass()(graph)  # the weights in fp32 too
    NameFixPass()(graph)
    CheckerPass()(graph)
    made: bytes = ir.to_proto(graph).SerializeToString(deterministic=True)
    return made


def _nothing_to_change(precision: str) -> UnsupportedGenerator:
    return UnsupportedGenerator(
        f"the graph has none of {', '.join(sorted(PRODUCTS))}, so {precision} would change nothing"
    )


def quantize(
    model: bytes, batches: Iterable[Mapping[str, NDArray[Any]]], *, device: Literal["cpu", "cuda"] = "cpu"
) -> bytes:
    """Return the graph with its matrix products in int8, by ONNX Runtime's static quantisation.

    Weights have one scale per channel, activations one per tensor, from their range over ``batches``. Both are
    symmetric (zero point 0), the only form that TensorRT reads as well. The graph holds QuantizeLinear and
    DequantizeLinear nodes.

    Processors without VNNI add two products of an unsigned and a signed byte in 16 bits, which saturate:
    2 · 255 · 127 is above 32,767. With weights of 7 bits they cannot, 2 · 255 · 64 being below, so a graph makes the
    same samples on every processor. That costs 0.02 dB of 26.5 on the shipped generator.

    Args:
        model: a lowered graph: a ConvTranspose would stay as it is.
        batches: the graph's inputs by name, from real latents; more batches make the ranges more certain.
        device: ``cpu``: weights of 7 bits, since processors without VNNI add pairs of 8-bit products in 16 bits, which
            saturate; and biases as int32, which ONNX Runtime's kernels need. ``cuda``: weights of 8 bits, and biases
            left in fp32, since TensorRT refuses quantized ones.

    Raises:
        UnsupportedGenerator: the graph has no matrix product.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    if not any(node.op_type in PRODUCTS for node in onnx.load_from_string(model).graph.node):
        raise _nothing_to_change("int8")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> Mapping[str, NDArray[Any]] | None:
            return next(self._batches, None)

    with tempfile.TemporaryDirectory() as folder:  # its interface is files
        source, result = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        quantize_static(
            source,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted(PRODUCTS),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            reduce_range=device == "cpu",
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": device == "cpu"},
        )
        quantized = onnx.load_from_string(read_bounded(result, MODEL))
    quantized.producer_name, quantized.producer_version = "gen-engine", ""
    del quantized.metadata_props[:]
    made: bytes = quantized.SerializeToString(deterministic=True)
    return made


class _Caster:
    """Gives one graph its types. Casts are shared: one per value and direction."""

    def __init__(self, graph: ir.Graph, dtype: ir.DataType, precision: str) -> None:
        self._graph, self._dtype, self._precision = graph, dtype, precision
        self._low = _leads_to_a_product(graph)
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        if not self._low:
            raise _nothing_to_change(self._precision)
        for node in tuple(self._graph):
            wanted = self._dtype if node in self._low else ir.DataType.FLOAT
            fixed = _ALWAYS_FP32.get(node.op_type, frozenset())
            for i, value in enumerate(node.inputs):
                if value is not None and i not in fixed and _is_float(value) and value.dtype != wanted:
                    node.replace_input_with(i, self._as(value, wanted, node))
            if node in self._low:
                self._retype(node)

    def _retype(self, node: ir.Node) -> None:
        """Give a node's outputs the type, also where an attribute names it."""
        for name in ("to", "dtype"):
            attribute = node.attributes.get(name)
            if attribute is not None and attribute.as_int() == ir.DataType.FLOAT:
                node.attributes[name] = ir.AttrInt64(name, int(self._dtype))
        if node.op_type == "ConstantOfShape" and "value" in node.attributes:
            value = node.attributes["value"].as_tensor()
            if value.dtype == ir.DataType.FLOAT:
                node.attributes["value"] = ir.AttrTensor("value", self._converted(value.numpy(), "value"))
        for output in node.outputs:
            if output.dtype == ir.DataType.FLOAT:
                output.dtype = self._dtype

    def _as(self, value: ir.Value, dtype: ir.DataType, user: ir.Node) -> ir.Value:
        key = value, dtype
        if key not in self._casts:
            made = self._constant(value) if value.const_value is not None else self._cast_node(value, dtype, user)
            self._casts[key] = made
        return self._casts[key]

    def _constant(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        name = f"{value.name}_{self._precision}"
        made = ir.Value(
            name=name,
            shape=value.shape,
            type=ir.TensorType(self._dtype),
            const_value=self._converted(value.const_value.numpy(), name),
        )
        self._graph.register_initializer(made)
        return made

    def _converted(self, array: NDArray[Any], name: str) -> ir.TensorProtocol:
        with np.errstate(over="ignore"):  # reported below
            converted = array.astype(self._dtype.numpy())
        if np.isfinite(array).all() and not np.isfinite(converted.astype(np.float32)).all():
            raise UnsupportedGenerator(
                f"weight {name} reaches {np.abs(array).max():g}, too large for {self._precision}; use bf16 or fp32"
            )
        return ir.Tensor(converted, dtype=self._dtype, name=name)

    def _cast_node(self, value: ir.Value, dtype: ir.DataType, user: ir.Node) -> ir.Value:
        node = ir.node("Cast", [value], attributes={"to": int(dtype)})
        (made,) = node.outputs
        made.name = f"{value.name}_{dtype.name.lower()}"
        made.shape, made.type = value.shape, ir.TensorType(dtype)
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(producer, node)
        return made


def _leads_to_a_product(graph: ir.Graph) -> set[ir.Node]:
    """Return the matrix products and every node before one."""
    before_product: set[ir.Node] = set()
    for node in reversed(graph):
        if node.op_type in PRODUCTS or any(user in before_product for out in node.outputs for user, _ in out.uses()):
            before_product.add(node)
    return before_product


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, *CASTS.values())


def _opset(proto: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in proto.opset_import if entry.domain == "")
