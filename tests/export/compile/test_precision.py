"""A graph in another precision, stated in its types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graphs import graph, operators, run
from onnx import TensorProto, helper
from onnx.shape_inference import infer_shapes

from gen_engine.export.compile.lower import lower
from gen_engine.export.compile.precision import CASTS, PRODUCTS, cast, quantize
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.models import ModelConfig, build_generator

TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def generator() -> bytes:
    torch.manual_seed(0)
    config = ModelConfig(family="dcgan", image_size=28, num_classes=4, width=8, latent_dim=16)
    return to_onnx(build_generator(config).eval())


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    latents = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    return {"latents": latents, "labels": np.arange(4)}


def types(model: bytes) -> dict[str, int]:
    """Return the element type of every value."""
    found = infer_shapes(onnx.load_from_string(model), strict_mode=True)
    values = [*found.graph.value_info, *found.graph.input, *found.graph.output]
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        tensor.name: tensor.data_type for tensor in found.graph.initializer
    }


@pytest.mark.parametrize("precision", CASTS)
def test_every_product_has_the_type_and_the_interface_keeps_its_own(generator: bytes, precision: str) -> None:
    made = cast(generator, precision)
    of = types(made)
    products = [node for node in onnx.load_from_string(made).graph.node if node.op_type in PRODUCTS]
    assert len(products) == 3
    for node in products:
        assert {of[name] for name in (*node.input, *node.output)} == {TYPES[precision]}
    assert of["latents"] == of["images"] == TensorProto.FLOAT
    assert of["pixels"] == TensorProto.UINT8
    after = operators(made)[operators(made).index("Tanh") - 1 :]
    assert after[:2] == ["Cast", "Tanh"]  # what follows the last product is fp32
    assert cast(generator, precision) == made


@pytest.mark.parametrize("precision", CASTS)
def test_no_weight_is_kept_twice(generator: bytes, precision: str) -> None:
    assert len(cast(generator, precision)) < 0.6 * len(generator)


def test_fp16_is_near_fp32(generator: bytes, feeds: dict[str, np.ndarray]) -> None:
    before, after = run(generator, feeds)[0], run(cast(generator, "fp16"), feeds)[0]
    assert 0 < np.abs(after - before).max() < 2e-3


def test_fp32_is_the_graph_itself(generator: bytes) -> None:
    assert cast(generator, "fp32") is generator


def test_what_is_no_type(generator: bytes) -> None:
    with pytest.raises(ValueError, match="precision 'int8' is not a type of a graph: known are fp32, fp16, bf16"):
        cast(generator, "int8")


def test_a_weight_beyond_fp16() -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    model = graph([node], {"w": np.full((3, 2), 1e5, np.float32)}, (3,))
    with pytest.raises(UnsupportedGenerator, match="weight w_fp16 reaches 100000, too large for fp16; use bf16"):
        cast(model, "fp16")
    cast(model, "bf16")


def test_nothing_to_cast() -> None:
    with pytest.raises(UnsupportedGenerator, match="none of Conv, ConvTranspose, Gemm, MatMul, so bf16 would change"):
        cast(graph([helper.make_node("Tanh", ["x"], ["y"])], {}, (3,)), "bf16")


def test_a_value_used_in_both_types_is_cast_once() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"]),
        helper.make_node("Gemm", ["h", "w"], ["g"]),
        helper.make_node("Add", ["h", "g"], ["s"]),
        helper.make_node("Mul", ["s", "h"], ["y"]),
    ]
    made = cast(graph(nodes, {"w": np.eye(3, dtype=np.float32)}, (3,)), "bf16")
    assert operators(made).count("Cast") == 3  # x down, h and g up


def test_scales_of_a_resize_stay_fp32() -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="nearest"),
        helper.make_node("Conv", ["u", "w"], ["y"]),
    ]
    constants = {"scales": np.array([1, 1, 2, 2], np.float32), "w": np.ones((1, 1, 1, 1), np.float32)}
    assert types(cast(graph(nodes, constants, (1, 3, 3)), "fp16"))["scales"] == TensorProto.FLOAT


@pytest.mark.filterwarnings("ignore")
def test_int8_has_symmetric_scales(generator: bytes, feeds: dict[str, np.ndarray]) -> None:
    lowered = lower(generator, ("batchnorm", "dense", "subpixel"), outputs=["pixels"]).model
    made = quantize(lowered, [feeds])
    model = onnx.load_from_string(made)
    zeros = {name for node in model.graph.node if node.op_type == "QuantizeLinear" for name in node.input[2:]}
    arrays = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in zeros]
    assert arrays
    assert all(array.dtype == np.int8 and not array.any() for array in arrays)
    before, after = run(lowered, feeds)[0].astype(int), run(made, feeds)[0]
    assert np.abs(after - before).mean() < 8


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("device", "largest"), [("cpu", 64), ("cuda", 127)])
def test_int8_weights_have_7_bits_on_a_processor(
    generator: bytes, feeds: dict[str, np.ndarray], device: str, largest: int
) -> None:
    """Two products of u8 × s8 are added in 16 bits without VNNI: 2 × 255 × 64 fits, 2 × 255 × 127 does not."""
    lowered = lower(generator, ("batchnorm", "dense", "subpixel"), outputs=["pixels"]).model
    model = onnx.load_from_string(quantize(lowered, [feeds], device=device))
    weights = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.INT8]
    assert max(np.abs(weight.astype(int)).max() for weight in weights) == largest


_RUN = """
import json, sys
import numpy as np, openvino
core = openvino.Core()
model = core.read_model(sys.argv[1])
model.reshape([2, 32, 8, 8])
compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
info = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
kernels = [one["primitiveType"].astype(str) for one in info if one["layerType"].astype(str) == "Convolution"]
made = compiled(np.ones((2, 32, 8, 8), np.float32))[0]
print(json.dumps({"kernels": kernels, "least": float(made.min()), "greatest": float(made.max())}))
"""


def as_on(isa: str, model: bytes, folder: Path) -> dict[str, object]:
    """Return what openvino makes of ones on a processor that has no more than these instructions."""
    (folder / "m.onnx").write_bytes(model)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN, str(folder / "m.onnx")],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE", "ALL"])
def test_int8_does_not_saturate_without_vnni(isa: str, tmp_path: Path) -> None:
    """Every product is as large as it can be: without VNNI, 8-bit weights come out at half of what they should."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    model = graph(nodes, {"w": np.full((8, 32, 3, 3), 1 / 288, np.float32)}, (32, 8, 8))
    made = quantize(model, [{"x": np.ones((2, 32, 8, 8), np.float32)}])
    found = as_on(isa, made, tmp_path)
    assert any("i8" in str(kernel).lower() for kernel in found["kernels"]), found
    assert found["least"] == pytest.approx(1, abs=0.02)
    assert found["greatest"] == pytest.approx(1, abs=0.02)


@pytest.mark.filterwarnings("ignore")
def test_weights_have_seven_bits_unless_a_gpu_adds_them(generator: bytes, feeds: dict[str, np.ndarray]) -> None:
    lowered = lower(generator, ("batchnorm", "dense", "subpixel"), outputs=["pixels"]).model
    for bits, largest in ((7, 64), (8, 127)):
        made = onnx.load_from_string(quantize(lowered, [feeds], device={7: "cpu", 8: "cuda"}[bits]))
        weights = [onnx.numpy_helper.to_array(t) for t in made.graph.initializer if t.name.endswith("_quantized")]
        int8 = [np.abs(array.astype(int)).max() for array in weights if array.dtype == np.int8]
        assert len(int8) >= 3
        assert max(int8) <= largest
        assert max(int8) >= largest - 1
