"""Models for filters: small ONNX graphs with known scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.filtering import FilterOptions


def linear_model(
    path: Path,
    weights_VK: NDArray[Any],
    bias_K: NDArray[Any] | float = 0.0,
    *,
    image: tuple[int, int, int] = (28, 28, 1),
    softmax: bool = False,
    flat: bool = False,
    batch: int | str = "N",
    labels: bool = False,
    tail: list[onnx.NodeProto] | None = None,
) -> Path:
    """Write a model whose scores are ``images @ weights + bias``, of images [N, C, H, W], and return its path.

    Args:
        path: the ONNX file.
        weights_VK: a column per score.
        bias_K: added to the scores.
        image: (H, W, C) of an image.
        softmax: the output is probabilities.
        flat: the output is [N].
        batch: the only batch that it takes.
        labels: it takes labels as well, and adds them to its scores.
        tail: nodes from ``scores`` to ``out`` instead.
    """
    height, width, channels = image
    size = weights_VK.shape[1]
    initializers = {
        "W": np.asarray(weights_VK, np.float32),
        "b": np.broadcast_to(np.float32(bias_K), (size,)),
        "shape": np.array([-1, height * width * channels], np.int64),
        "one": np.array([1], np.int64),
        "row": np.array([-1], np.int64),
    }
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, channels, height, width])]
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["values"]),
        helper.make_node("Gemm", ["values", "W", "b"], ["scores"]),
    ]
    scores = "scores"
    if labels:
        inputs.append(helper.make_tensor_value_info("labels", TensorProto.INT64, [batch]))
        nodes += [
            helper.make_node("Cast", ["labels"], ["ids"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["ids", "one"], ["column"]),
            helper.make_node("Add", ["scores", "column"], ["labelled"]),
        ]
        scores = "labelled"
    if tail is not None:
        nodes += tail
    elif softmax:
        nodes.append(helper.make_node("Softmax", [scores], ["out"], axis=1))
    elif flat:
        nodes.append(helper.make_node("Reshape", [scores, "row"], ["out"]))
    else:
        nodes.append(helper.make_node("Identity", [scores], ["out"]))
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    graph = helper.make_graph(
        nodes, "filter", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in initializers.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def fitted_classifier(path: Path, bundle: Bundle, *, gain: float = 1.0, favour: float = 0.2, **options: Any) -> Path:
    """Write a classifier of a bundle's samples, by least squares on some of them, and return its path.

    ``favour`` is added to the score of the first class, which makes it the most likely to pass.
    """
    with Generator.open(bundle, workers=1) as generator:
        columns = generator.columns(0, 3000, seed=99)
        classes = len(generator.classes or ())
    images_NV = np.asarray(columns["image"]).reshape(3000, -1).astype(np.float64) / 255
    targets_NK = np.eye(classes)[np.asarray(columns["label"])] - 1 / classes
    centre_V = images_NV.mean(axis=0)
    centred_NV = images_NV - centre_V
    weights_VK = np.linalg.solve(centred_NV.T @ centred_NV + 10 * np.eye(len(centre_V)), centred_NV.T @ targets_NK)
    bias_K = -gain * centre_V @ weights_VK + favour * (np.arange(classes) == 0)
    height, width, channels = bundle.output.shape
    return linear_model(path, gain * weights_VK, bias_K, image=(height, width, channels), **options)


def filtering(value: Path | str, **options: Any) -> FilterOptions:
    """Return the options of a filter, whose names are given without ``filter_``."""
    return FilterOptions(filter=str(value), **{f"filter_{name}": option for name, option in options.items()})
