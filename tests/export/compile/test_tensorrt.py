"""Typed graphs as TensorRT takes them, and the engines that TensorRT-RTX really builds of them without a GPU."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from graphs import graph, operators, run
from onnx import helper
from zoo import zoo

from gen_engine.engine.backends import import_runtime, tensorrt_engine
from gen_engine.engine.backends.tensorrt_engine import BuildOptions, build_engine
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import EngineBuildError, RequestError
from gen_engine.export.compile.lower import lower
from gen_engine.export.compile.precision import cast, quantize
from gen_engine.export.compile.tensorrt_graph import cast_last, prepare
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.models import ModelConfig, build_generator

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
ZOO = [
    ("mlp-gan", 28, 0),
    ("mlp-vae", 28, 5),
    ("dcgan", 28, 5),
    ("dcgan", 32, 0),
    ("dcgan", 64, 0),
    ("conv-vae", 28, 0),
    ("conv-vae", 64, 3),
]


def generator(name: str, size: int, classes: int) -> bytes:
    torch.manual_seed(0)
    config = ModelConfig(family=name, image_size=size, num_classes=classes, width=8, latent_dim=16, hidden=32)
    return to_onnx(build_generator(config).eval())


@lru_cache(maxsize=1)
def measured(name: str) -> bytes:
    torch.manual_seed(0)
    return to_onnx(zoo()[name]().eval())


def pixels_only(model: bytes, precision: str) -> bytes:
    names = ("batchnorm", "dense", "subpixel") if precision in ("bf16", "int8") else ()
    return lower(model, names, outputs=["pixels"]).model


def dense() -> bytes:
    nodes = [helper.make_node("Gemm", ["latents", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["pixels"])]
    return graph(nodes, {"w": np.eye(8, dtype=np.float32)}, (8,), name="latents", output="pixels")


@needs_rtx
class TestRealBuilds:
    @pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
    @pytest.mark.parametrize(("name", "size", "classes"), ZOO)
    def test_the_zoo(self, name: str, size: int, classes: int, precision: str) -> None:
        typed = cast(pixels_only(generator(name, size, classes), precision), precision.replace("tf32", "fp32"))
        model = prepare(typed, precision)
        steps: list[tuple[str, int, int]] = []
        built = build_engine(
            model,
            BuildOptions(precision=precision, min_batch=1, opt_batch=16, max_batch=64),
            trt=import_runtime("tensorrt-rtx"),
            progress=lambda *step: steps.append(step),
        )
        assert len(built.plan) > 10_000
        assert built.record.tensors["pixels"] == {"mode": "output", "dtype": "UINT8", "shape": [-1, size, size, 1]}
        assert built.record.tensors["latents"]["shape"] == [-1, 16]
        assert ("labels" in built.record.tensors) is (classes > 0)
        assert built.record.onnx_sha256 == sha256_bytes(model)
        assert built.record.inspected == "not inspected: built without a GPU"
        assert steps

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])  # innermost: a model is exported once
    @pytest.mark.parametrize("name", zoo())
    def test_the_generators_that_are_measured(self, name: str, precision: str) -> None:
        """At their full size, sounds and up-sampling among them; and each with all that compiling does to it."""
        model = measured(name)
        names = ["batchnorm", "dense", "subpixel", "upsample-conv"] if precision == "bf16" else []
        typed = cast(lower(model, names, outputs=["pixels"]).model, precision)
        built = build_engine(
            prepare(typed, precision), BuildOptions(precision=precision), trt=import_runtime("tensorrt-rtx")
        )
        assert built.record.tensors["pixels"]["dtype"] == "UINT8"

    @pytest.mark.filterwarnings("ignore")
    def test_int8(self) -> None:
        lowered = pixels_only(generator("dcgan", 28, 0), "int8")
        feeds = {"latents": np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)}
        typed = quantize(lowered, [feeds], device="cuda")
        built = build_engine(prepare(typed, "int8"), BuildOptions(precision="int8"), trt=import_runtime("tensorrt-rtx"))
        assert len(built.plan) > 10_000

    def test_a_graph_of_too_many_layers_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tensorrt_engine, "MOST_LAYERS", 3)
        with pytest.raises(EngineBuildError, match=r"the graph has \d+ layers.*more than 3.*--backend onnxruntime"):
            build_engine(
                prepare(pixels_only(generator("dcgan", 28, 0), "fp32"), "fp32"),
                BuildOptions(precision="fp32"),
                trt=import_runtime("tensorrt-rtx"),
            )

    def test_a_refused_graph_says_why(self) -> None:
        nodes = [
            helper.make_node("Gemm", ["latents", "w"], ["h"]),
            helper.make_node("Reshape", ["h", "square"], ["m"]),
            helper.make_node("Det", ["m"], ["pixels"]),
        ]
        constants = {"w": np.eye(8, 4, dtype=np.float32), "square": np.array([-1, 2, 2])}
        model = graph(nodes, constants, (8,), name="latents", output="pixels")
        with pytest.raises(EngineBuildError, match=r"tensorrt_rtx .* refused the graph: .*Det"):
            build_engine(model, BuildOptions(), trt=import_runtime("tensorrt-rtx"))


def test_uint8_is_made_last() -> None:
    model = pixels_only(generator("dcgan", 28, 0), "fp32")
    moved = cast_last(model)
    assert operators(model)[-1] == "Transpose"
    assert operators(moved)[-1] == "Cast"
    feeds = {"latents": np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)}
    np.testing.assert_array_equal(run(moved, feeds)[0], run(model, feeds)[0])
    assert cast_last(moved) == moved


class TestTypes:
    def test_a_graph_of_another_precision(self) -> None:
        with pytest.raises(RequestError, match=r"precision 'bf16': Gemm .* has weights in FLOAT; cast the graph first"):
            prepare(dense(), "bf16")

    def test_bf16_with_a_transposed_convolution(self) -> None:
        typed = cast(lower(generator("dcgan", 28, 0), (), outputs=["pixels"]).model, "bf16")
        with pytest.raises(RequestError, match=r"no ConvTranspose in it .* lowerings dense and subpixel"):
            prepare(typed, "bf16")

    def test_int8_that_was_not_quantized(self) -> None:
        with pytest.raises(RequestError, match="has no QuantizeLinear nodes; quantize it first"):
            prepare(dense(), "int8")
