"""ONNX graphs in torch: each operator against ONNX Runtime, and whole classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.attack.classifier import Classifier, Scaling
from gen_engine.evaluate.attack.graph import graph_classifier
from gen_engine.evaluate.attack.operators import OPERATORS
from gen_engine.export.graph import parse
from gen_engine.export.session import Session

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 4, 7, 6)).astype(np.float32)
ROWS = RNG.normal(size=(3, 5)).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(size=shape).astype(np.float32)


CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Conv", [X, normal(6, 4, 3, 3), normal(6)], {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", [X, normal(6, 4, 3, 2)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [X, normal(6, 4, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    ("Conv", [X, normal(4, 1, 3, 3)], {"group": 4, "dilations": [2, 1], "auto_pad": "VALID"}),
    ("MaxPool", [X], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    ("AveragePool", [X], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("GlobalAveragePool", [X], {}),
    ("GlobalMaxPool", [X], {}),
    ("BatchNormalization", [X, normal(4), normal(4), normal(4), np.abs(normal(4))], {"epsilon": 0.01}),
    ("LayerNormalization", [ROWS, normal(5), normal(5)], {"axis": -1}),
    ("Gemm", [ROWS, normal(4, 5), normal(4)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [ROWS.T.copy(), normal(5, 4)], {"transA": 1}),
    ("MatMul", [X, normal(6, 3)], {}),
    *((name, [X, normal(4, 1, 1)], {}) for name in ("Add", "Sub", "Mul", "Div")),
    ("Div", [ints(7, -7, 8), ints(2, 2, 3)], {}),
    ("Pow", [np.abs(X), np.float32(1.5)], {}),
    *((name, [np.abs(X)], {}) for name in ("Sqrt", "Log", "Reciprocal")),
    *((name, [X], {}) for name in ("Exp", "Neg", "Abs", "Erf", "Relu", "Sigmoid", "Tanh", "HardSwish", "Mish")),
    *((name, [X], {}) for name in ("Softplus", "Gelu", "LeakyRelu", "Elu", "HardSigmoid", "Identity", "Dropout")),
    ("Gelu", [X], {"approximate": "tanh"}),
    ("LeakyRelu", [X], {"alpha": 0.3}),
    ("PRelu", [X, normal(4, 1, 1)], {}),
    ("Softmax", [X], {"axis": 1}),
    ("LogSoftmax", [ROWS], {}),
    ("Clip", [X, np.float32(-0.5), np.float32(0.25)], {}),
    ("Clip", [X, None, np.float32(0.25)], {}),
    ("Reshape", [X, ints(0, -1, 3)], {}),
    ("Flatten", [X], {"axis": 2}),
    ("Squeeze", [X[:, :1], ints(1)], {}),
    ("Unsqueeze", [ROWS, ints(0, -1)], {}),
    ("Slice", [X, ints(1, -4), ints(3, 100), ints(1, 3), ints(1, 2)], {}),
    ("Pad", [X, ints(0, 0, 1, 2, 0, 0, 3, 0), np.float32(0.5)], {}),
    ("Pad", [X, ints(1, 2), None, ints(-1)], {}),
    ("Gather", [X, np.array([[0, -1], [2, 1]], np.int64)], {"axis": 1}),
    ("Transpose", [X], {"perm": [0, 2, 3, 1]}),
    ("Transpose", [X], {}),
    ("Concat", [X, X[:, :1]], {"axis": 1}),
    ("Shape", [X], {"start": 1}),
    ("Cast", [X], {"to": TensorProto.INT64}),
    ("Expand", [X[:, :1], ints(4, 1, 1)], {}),
    ("ConstantOfShape", [ints(2, 3)], {"value": numpy_helper.from_array(np.array([2.5], np.float32))}),
    ("ConstantOfShape", [ints(2, 3)], {}),
    ("Where", [X > 0, X, np.float32(0)], {}),
    ("ReduceMean", [X, ints(2, 3)], {"keepdims": 0}),
    ("ReduceMean", [X], {}),
    ("ReduceSum", [X, ints(1)], {}),
    ("ReduceMax", [X, ints(-1)], {}),
]


def node_of(op: str, inputs: list[Any], attributes: dict[str, Any]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    names = ["" if value is None else f"i{at}" for at, value in enumerate(inputs)]
    feeds = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True) if value is not None}
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    made = [helper.make_empty_tensor_value_info("out")]
    graph = helper.make_graph([helper.make_node(op, names, ["out"], **attributes)], "g", declared, made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), feeds


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES, ids=[f"{at}-{one[0]}" for at, one in enumerate(CASES)])
def test_an_operator_computes_what_onnx_runtime_does(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    model, feeds = node_of(op, inputs, attributes)
    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    (node,) = parse(model).graph
    values = {name: one.value for name, one in node.attributes.items()}
    tensors = [None if value is None else torch.from_numpy(np.array(value)) for value in inputs]
    made = OPERATORS[op](values, *tensors).numpy()
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


def test_every_operator_is_compared() -> None:
    assert {op for op, *_ in CASES} == OPERATORS.keys()


def classifier_model(*ends: str, classes: int = 3, inputs: int = 1) -> onnx.ModelProto:
    """Return a graph of a dense layer, and of operators after it that take and make one value."""
    weights = [numpy_helper.from_array(normal(16, classes), "w"), numpy_helper.from_array(normal(classes), "b")]
    nodes = [helper.make_node("Flatten", ["x0"], ["flat"]), helper.make_node("Gemm", ["flat", "w", "b"], ["v0"])]
    nodes += [helper.make_node(op, [f"v{at}"], [f"v{at + 1}"]) for at, op in enumerate(ends)]
    given = [helper.make_tensor_value_info(f"x{at}", TensorProto.FLOAT, ["n", 1, 4, 4]) for at in range(inputs)]
    made = [helper.make_tensor_value_info(f"v{len(ends)}", TensorProto.FLOAT, ["n", classes])]
    graph = helper.make_graph(nodes, "g", given, made, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


IMAGES = RNG.integers(0, 256, (6, 4, 4, 1)).astype(np.uint8)


def load(model: onnx.ModelProto, run: Any = None) -> Classifier:
    return graph_classifier(
        parse(model),
        run or Session(model.SerializeToString()),
        name="net.onnx",
        sha256="0" * 64,
        scaling=Scaling(),
        classes=3,
        images_NHWC=IMAGES,
    )


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax"])
def test_a_last_softmax_is_left_out(end: str) -> None:
    inputs = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).astype(np.float32))
    loaded = load(classifier_model(end))
    scores = loaded.scores(inputs, "")
    assert float(scores.sum(1).sub(1).abs().max()) > 0.1
    assert float(scores.exp().sum(1).sub(1).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (classifier_model("Sinh"), r"operators without a gradient here: Sinh \(1×\); attack the torch module"),
        (classifier_model(classes=4), r"outputs v0 \[6, 4\], and one has to be \[6, 3\]"),
        (classifier_model(inputs=2), "has the inputs x0, x1: a classifier of images has one"),
    ],
)
def test_a_graph_that_is_no_such_classifier_is_refused(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load(model)


def test_a_graph_that_computes_something_else_here_is_refused() -> None:
    model = classifier_model()
    session = Session(model.SerializeToString())
    with pytest.raises(RequestError, match=r"other scores in torch than in ONNX Runtime, by 0\.\d+ of the largest"):
        load(model, lambda feeds: {name: value * 1.1 for name, value in session(feeds).items()})
