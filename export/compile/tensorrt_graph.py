"""A typed ONNX graph as TensorRT takes it: its types checked, its conversion to uint8 the last node.

:mod:`gen_engine.engine.backends.tensorrt_engine` builds engines of it, here and where they are used.
"""

from __future__ import annotations

import onnx

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.bundle import PIXELS_OUTPUT

_TYPES = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def prepare(model: bytes, precision: str) -> bytes:
    """Return the graph that an engine of this precision is built from.

    Raises:
        RequestError: the graph's types are not those of the precision.
    """
    _check_types(model, precision)
    return cast_last(model)


def _check_types(model: bytes, precision: str) -> None:
    """Raise RequestError unless the graph's matrix products are in the precision: nothing else can change it."""
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    wanted = _TYPES.get("fp32" if precision == "tf32" else precision)
    if wanted is None:
        if not any(node.op_type == "DequantizeLinear" for node in proto.graph.node):
            raise RequestError(f"precision {precision!r}: the graph has no QuantizeLinear nodes; quantize it first")
        return
    of = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        if of.get(node.input[1], wanted) != wanted:
            held = onnx.TensorProto.DataType.Name(of[node.input[1]])
            raise RequestError(
                f"precision {precision!r}: {node.op_type} {node.name!r} has weights in {held}; cast the graph first"
            )
        if precision == "bf16" and node.op_type == "ConvTranspose":
            raise RequestError(
                f"precision 'bf16': TensorRT builds no ConvTranspose in it ({node.name!r}); lower the graph first, "
                "with the lowerings dense and subpixel"
            )


def cast_last(model: bytes) -> bytes:
    """Return the graph with its conversion to uint8 as the last node: TensorRT has that type for outputs alone.

    What follows the conversion only moves values, so it moves them before it as well.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    casts = [n for n in graph.node if n.op_type == "Cast" and n.attribute[0].i == onnx.TensorProto.UINT8]
    if len(casts) != 1 or casts[0].output[0] in {value.name for value in graph.output}:
        return model
    (cast,) = casts
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == cast.output[0]:
                node.input[i] = cast.input[0]
    last = next(node for node in reversed(graph.node) if PIXELS_OUTPUT in node.output)
    last.output[0] = cast.input[0] = f"{PIXELS_OUTPUT}_before"
    cast.output[0] = PIXELS_OUTPUT
    graph.node.remove(cast)
    graph.node.append(cast)
    del graph.value_info[:]
    moved: bytes = proto.SerializeToString(deterministic=True)
    return moved
