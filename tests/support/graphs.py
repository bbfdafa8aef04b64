"""Small random graphs of single layers, and how to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
    input_shape: Sequence[int],
    *,
    name: str = "x",
    output: str = "y",
    output_type: int = TensorProto.FLOAT,
) -> bytes:
    """Return a model with a float input [batch, *input_shape] and one output, its shapes inferred."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *input_shape])]
    outputs = [helper.make_tensor_value_info(output, output_type, None)]
    initializers = [numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items()]
    made = helper.make_graph(list(nodes), "g", inputs, outputs, initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def run(model: bytes, feeds: Mapping[str, NDArray[Any]], *, optimize: bool = True) -> list[NDArray[Any]]:
    """Return the outputs that ONNX Runtime computes on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def operators(model: bytes) -> list[str]:
    """Return the operators in order."""
    return [node.op_type for node in onnx.load_from_string(model).graph.node]
