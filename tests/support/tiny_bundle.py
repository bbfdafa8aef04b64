"""A small real bundle in milliseconds and without torch, for tests that need some generator and not a certain one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gen_engine.engine.bundle import (
    IMAGES_OUTPUT,
    LABELS_INPUT,
    LATENTS_INPUT,
    PIXELS_OUTPUT,
    Bundle,
    LabelSpec,
    LatentSpec,
    OutputSpec,
    write_bundle,
)

CLASSES = ("circle", "square", "star")
_EMBEDDING = 4


def make_tiny_bundle(
    path: Path,
    *,
    conditional: bool = True,
    size: int = 28,
    channels: int = 1,
    latent_dim: int = 8,
    distribution: str = "normal",
    seed: int = 0,
) -> Bundle:
    """Write a bundle whose generator is one dense layer and a tanh, with seeded random weights.

    Its samples differ by index and, in a conditional one, by class: :data:`CLASSES`.
    """
    return write_bundle(
        path,
        name=path.name.removesuffix(".gen"),
        latent=LatentSpec(dim=latent_dim, distribution=distribution),
        labels=LabelSpec(names=CLASSES) if conditional else None,
        output=OutputSpec(modality="image", shape=(size, size, channels)),
        generator=tiny_generator(
            conditional=conditional, size=size, channels=channels, latent_dim=latent_dim, seed=seed
        ).SerializeToString(deterministic=True),
        training={"data": {"name": "none: random weights", "sha256": "0" * 64}},
        parity={},
    )


def tiny_generator(*, conditional: bool, size: int, channels: int, latent_dim: int, seed: int) -> onnx.ModelProto:
    """Return the graph, with the inputs and outputs that a bundle's graph has."""
    rng = np.random.default_rng(seed)
    inputs = [helper.make_tensor_value_info(LATENTS_INPUT, TensorProto.FLOAT, ["batch", latent_dim])]
    features, hidden = latent_dim, LATENTS_INPUT
    nodes, weights = [], {}
    if conditional:
        inputs.append(helper.make_tensor_value_info(LABELS_INPUT, TensorProto.INT64, ["batch"]))
        weights["embedding"] = 2.0 * rng.standard_normal((len(CLASSES), _EMBEDDING)).astype(np.float32)
        nodes += [
            helper.make_node("Gather", ["embedding", LABELS_INPUT], ["embedded"], axis=0),
            helper.make_node("Concat", [LATENTS_INPUT, "embedded"], ["conditioned"], axis=1),
        ]
        features, hidden = latent_dim + _EMBEDDING, "conditioned"
    dense = rng.standard_normal((features, channels * size * size)).astype(np.float32)
    weights["dense"] = dense * np.float32(0.5 / np.sqrt(features))
    weights["shape"] = np.array([-1, channels, size, size], np.int64)
    weights |= {"half": np.float32(127.5), "black": np.float32(0), "white": np.float32(255)}
    nodes += [
        helper.make_node("Gemm", [hidden, "dense"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["map"]),
        helper.make_node("Tanh", ["map"], [IMAGES_OUTPUT]),
        helper.make_node("Mul", [IMAGES_OUTPUT, "half"], ["scaled"]),
        helper.make_node("Add", ["scaled", "half"], ["shifted"]),
        helper.make_node("Round", ["shifted"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "black", "white"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["levels"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["levels"], [PIXELS_OUTPUT], perm=[0, 2, 3, 1]),
    ]
    outputs = [
        helper.make_tensor_value_info(IMAGES_OUTPUT, TensorProto.FLOAT, ["batch", channels, size, size]),
        helper.make_tensor_value_info(PIXELS_OUTPUT, TensorProto.UINT8, ["batch", size, size, channels]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
