"""A small real bundle in milliseconds and without torch, for tests that need some generator and not a certain one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gen_engine.engine.identity.bundle import (
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
_CHANNELS_LAST = {1: [0, 1], 2: [0, 2, 1], 3: [0, 2, 3, 1], 4: [0, 2, 3, 4, 1]}
"""Rank of a sample → the transposition of a batch of them."""


def make_tiny_bundle(
    path: Path,
    *,
    conditional: bool = True,
    size: int = 28,
    channels: int = 1,
    latent_dim: int = 8,
    distribution: str = "normal",
    seed: int = 0,
    output: OutputSpec | None = None,
    gain: float = 1.0,
) -> Bundle:
    """Write a bundle whose generator is one dense layer and a tanh, with seeded random weights.

    Its samples differ by index and, in a conditional one, by class: :data:`CLASSES`. They are square pictures of
    ``size`` and ``channels``, or what ``output`` says. Those that are no pictures are multiplied by ``gain``.
    """
    output = output or OutputSpec(kind="image", shape=(size, size, channels))
    return write_bundle(
        path,
        name=path.name.removesuffix(".gen"),
        latent=LatentSpec(dim=latent_dim, distribution=distribution),
        labels=LabelSpec(names=CLASSES) if conditional else None,
        output=output,
        generator=tiny_generator(
            conditional=conditional, output=output, latent_dim=latent_dim, seed=seed, gain=gain
        ).SerializeToString(deterministic=True),
        training={"data": {"name": "none: random weights", "sha256": "0" * 64}},
        parity={},
    )


def tiny_generator(
    *,
    conditional: bool,
    size: int = 28,
    channels: int = 1,
    latent_dim: int,
    seed: int,
    output: OutputSpec | None = None,
    gain: float = 1.0,
) -> onnx.ModelProto:
    """Return the graph, with the inputs and outputs that a bundle's graph has."""
    output = output or OutputSpec(kind="image", shape=(size, size, channels))
    *space, channels = output.shape
    shape = [channels, *space]
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
    dense = rng.standard_normal((features, int(np.prod(shape)))).astype(np.float32)
    weights["dense"] = dense * np.float32(0.5 / np.sqrt(features))
    weights["shape"] = np.array([-1, *shape], np.int64)
    nodes += [
        helper.make_node("Gemm", [hidden, "dense"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["map"]),
    ]
    nodes += _picture_tail(weights) if output.kind == "image" else _value_tail(weights, len(shape), gain)
    stored = TensorProto.UINT8 if output.kind == "image" else TensorProto.FLOAT
    outputs = [
        helper.make_tensor_value_info(IMAGES_OUTPUT, TensorProto.FLOAT, ["batch", *shape]),
        helper.make_tensor_value_info(PIXELS_OUTPUT, stored, ["batch", *output.shape]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _picture_tail(weights: dict[str, Any]) -> list[onnx.NodeProto]:
    weights |= {"half": np.float32(127.5), "black": np.float32(0), "white": np.float32(255)}
    return [
        helper.make_node("Tanh", ["map"], [IMAGES_OUTPUT]),
        helper.make_node("Mul", [IMAGES_OUTPUT, "half"], ["scaled"]),
        helper.make_node("Add", ["scaled", "half"], ["shifted"]),
        helper.make_node("Round", ["shifted"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "black", "white"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["levels"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["levels"], [PIXELS_OUTPUT], perm=_CHANNELS_LAST[3]),
    ]


def _value_tail(weights: dict[str, Any], rank: int, gain: float) -> list[onnx.NodeProto]:
    weights["gain"] = np.float32(gain)
    return [
        helper.make_node("Tanh", ["map"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "gain"], [IMAGES_OUTPUT]),
        helper.make_node("Transpose", [IMAGES_OUTPUT], [PIXELS_OUTPUT], perm=_CHANNELS_LAST[rank]),
    ]
