"""ONNX files as other tools write them: small random generators with their habits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Sketch:
    """Collects the nodes and weights of a graph, then saves it."""

    def __init__(self, opset: int = 17) -> None:
        self.opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, NDArray[Any]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._rng = np.random.default_rng(0)

    def input(self, name: str, shape: Sequence[int | str | None], dtype: int = FLOAT) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def weight(self, array: Any, dtype: Any = None) -> str:
        """Add a constant."""
        name = f"w{len(self._weights)}"
        self._weights[name] = np.asarray(array, dtype)
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def dense(self, value: str, features: int, outputs: int) -> str:
        """Add a dense layer of random weights."""
        weight = (self._rng.standard_normal((features, outputs)) / np.sqrt(features)).astype(np.float32)
        return self.op("Gemm", value, self.weight(weight), self.weight(np.zeros(outputs, np.float32)))

    def up(self, value: str, channels: int, outputs: int, kernel: Sequence[int], **attributes: Any) -> str:
        """Add a transposed convolution of random weights."""
        shape = (channels, outputs, *kernel)
        weight = self._rng.standard_normal(shape) / np.sqrt(channels * np.prod(kernel) / 4)
        return self.op("ConvTranspose", value, self.weight(weight.astype(np.float32)), **attributes)

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Add a Reshape to a constant shape."""
        return self.op("Reshape", value, self.weight(list(shape), np.int64))

    def model(self, outputs: Mapping[str, Sequence[int | str | None]], dtype: int = FLOAT) -> onnx.ModelProto:
        """Return the model; ``outputs`` are values and their shapes."""
        graph = helper.make_graph(
            self._nodes,
            "someone's",
            self._inputs,
            [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self._weights.items()],
        )
        domains = {node.domain for node in self._nodes if node.domain}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="someone")


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write it, and return the path."""
    path.write_bytes(model.SerializeToString())
    return path


def one_hot(batch: int | str = "n") -> onnx.ModelProto:
    """Latents [n, 6] and one-hot labels [n, 4] to images [n, 3, 8, 8] in [-1, 1]."""
    s = Sketch()
    joined = s.op("Concat", s.input("z", [batch, 6]), s.input("onehot", [batch, 4]), axis=1)
    rows = batch if isinstance(batch, int) else -1
    small = s.op("Relu", s.reshape(s.dense(joined, 10, 8 * 16), [rows, 8, 4, 4]))
    made = s.op("Tanh", s.up(small, 8, 3, [4, 4], strides=[2, 2], pads=[1] * 4))
    return s.model({made: [batch, 3, 8, 8]})


def stuck_at(batch: int) -> onnx.ModelProto:
    """Sounds [batch, 32] of one batch only: each row has a phase of its own."""
    s = Sketch()
    z = s.input("latent", [batch, 5])
    phase = s.weight(np.linspace(0, 1, batch, dtype=np.float32)[:, None] * np.ones((1, 32), np.float32))
    made = s.op("Sin", s.op("Add", s.dense(z, 5, 32), phase))
    return s.model({s.reshape(made, [batch, 1, 32]): [batch, 1, 32]})


def wave(batch: int | str = 1) -> onnx.ModelProto:
    """Latents [n, 7] to sounds [n, 1, 128] with values of any size."""
    s = Sketch(opset=11)
    rows = batch if isinstance(batch, int) else -1
    small = s.op("Relu", s.reshape(s.dense(s.input("noise", [batch, 7]), 7, 4 * 32), [rows, 4, 32]))
    made = s.up(small, 4, 1, [25], strides=[4], pads=[11, 11], output_padding=[1])
    return s.model({made: [batch, 1, 128]})


def noisy(batch: int | str = "n") -> onnx.ModelProto:
    """Latents [n, 4] to images [n, 1, 8, 8] in [0, 1], with normal, uniform and binary noise drawn by the graph."""
    s = Sketch(opset=15)
    rows = batch if isinstance(batch, int) else -1
    value = s.reshape(s.dense(s.input("z", [batch, 4]), 4, 64), [rows, 1, 8, 8])
    value = s.op("Add", value, s.op("RandomNormalLike", value, mean=0.25, scale=0.5))
    value = s.op("Add", value, s.op("RandomUniform", shape=[1, 1, 8, 8], low=-0.5, high=1.5))
    kept = s.op("Bernoulli", s.op("Sigmoid", value))
    return s.model({s.op("Mul", s.op("Sigmoid", value), kept): [batch, 1, 8, 8]})
