"""A hand-made bundle with several outputs: an image and its mask, and the columns of a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gen_engine.engine.identity.bundle import (
    LABELS_INPUT,
    LATENTS_INPUT,
    Bundle,
    LabelSpec,
    LatentSpec,
    OutputSpec,
    write_bundle,
)

CLASSES = ("cat", "dog")
COLOURS = ("red", "green", "blue")
SIDE, DIM = 6, 8

OUTPUTS = (
    OutputSpec(kind="image", shape=(SIDE, SIDE, 3), name="image", tensor="image"),
    OutputSpec(kind="image", shape=(SIDE, SIDE, 1), dtype="uint16", name="mask", tensor="mask_out"),
    OutputSpec(kind="vector", shape=(4,), name="embedding", tensor="embedding"),
    OutputSpec(kind="float", name="weight", tensor="weight"),
    OutputSpec(kind="category", name="colour", tensor="colour", categories=COLOURS),
    OutputSpec(kind="integer", dtype="int32", name="Age", tensor="age"),
    OutputSpec(kind="boolean", name="is-tame", tensor="tame"),
)


def make_table_bundle(path: Path, *, outputs: tuple[OutputSpec, ...] = OUTPUTS, shift: float = 0.0) -> Bundle:
    """Write the bundle. ``shift`` is added to the scores of the colours: above 2 an id is beyond the last one."""
    return write_bundle(
        path,
        name=path.name.removesuffix(".gen"),
        latent=LatentSpec(dim=DIM, distribution="normal"),
        labels=LabelSpec(names=CLASSES),
        output=outputs,
        generator=_graph(shift).SerializeToString(deterministic=True),
        training={},
        parity={},
    )


def _graph(shift: float) -> onnx.ModelProto:
    rng = np.random.default_rng(5)
    image, mask = SIDE * SIDE * 3, SIDE * SIDE
    weights: dict[str, Any] = {
        "dense": rng.standard_normal((DIM, image + mask + 4 + 4)).astype(np.float32),
        "classes": rng.standard_normal((len(CLASSES), DIM)).astype(np.float32),
        "sizes": np.array([image, mask, 4, 1, 1, 1, 1], np.int64),
        "image_shape": np.array([-1, SIDE, SIDE, 3], np.int64),
        "mask_shape": np.array([-1, SIDE, SIDE, 1], np.int64),
        "flat": np.array([-1], np.int64),
        "zero": np.float32(0),
        "two": np.float32(2),
        "shift": np.float32(shift),
        "levels": np.float32(255),
        "deep": np.float32(65535),
        "old": np.float32(90),
    }
    parts = ["image_flat", "mask_flat", "embedding", "weight_1", "colour_1", "age_1", "tame_1"]
    node = helper.make_node
    nodes = [
        node("Gather", ["classes", LABELS_INPUT], ["class"]),
        node("Add", [LATENTS_INPUT, "class"], ["driven"]),
        node("MatMul", ["driven", "dense"], ["raw"]),
        node("Split", ["raw", "sizes"], parts, axis=1),
        node("Sigmoid", ["image_flat"], ["image_01"]),
        node("Mul", ["image_01", "levels"], ["image_255"]),
        node("Cast", ["image_255"], ["image_u8"], to=TensorProto.UINT8),
        node("Reshape", ["image_u8", "image_shape"], ["image"]),
        node("Sigmoid", ["mask_flat"], ["mask_01"]),
        node("Mul", ["mask_01", "deep"], ["mask_65535"]),
        node("Cast", ["mask_65535"], ["mask_u16"], to=TensorProto.UINT16),
        node("Reshape", ["mask_u16", "mask_shape"], ["mask_out"]),
        node("Reshape", ["weight_1", "flat"], ["weight"]),
        node("Add", ["colour_1", "shift"], ["colour_shifted"]),
        node("Max", ["colour_shifted", "zero"], ["colour_low"]),
        *([node("Min", ["colour_low", "two"], ["colour_id"])] if shift == 0 else []),
        node("Cast", ["colour_id" if shift == 0 else "colour_low"], ["colour_i64"], to=TensorProto.INT64),
        node("Reshape", ["colour_i64", "flat"], ["colour"]),
        node("Sigmoid", ["age_1"], ["age_01"]),
        node("Mul", ["age_01", "old"], ["age_90"]),
        node("Cast", ["age_90"], ["age_i32"], to=TensorProto.INT32),
        node("Reshape", ["age_i32", "flat"], ["age"]),
        node("Greater", ["tame_1", "zero"], ["tame_bool"]),
        node("Reshape", ["tame_bool", "flat"], ["tame"]),
    ]
    made = helper.make_tensor_value_info
    outputs = [
        made("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3]),
        made("mask_out", TensorProto.UINT16, ["batch", SIDE, SIDE, 1]),
        made("embedding", TensorProto.FLOAT, ["batch", 4]),
        made("weight", TensorProto.FLOAT, ["batch"]),
        made("colour", TensorProto.INT64, ["batch"]),
        made("age", TensorProto.INT32, ["batch"]),
        made("tame", TensorProto.BOOL, ["batch"]),
    ]
    inputs = [
        made(LATENTS_INPUT, TensorProto.FLOAT, ["batch", DIM]),
        made(LABELS_INPUT, TensorProto.INT64, ["batch"]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "table", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
