"""Whole generators through the lowerings: nothing but the speed may change."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from graphs import graph, operators, run
from onnx import helper
from torch import nn

from gen_engine.export.compile.lower import LOWERINGS, lower
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.models import ModelConfig, build_generator
from gen_engine.train.models.contract import Generator

FAMILIES = [
    ("dcgan", 28, 10, 1),
    ("dcgan", 32, 0, 3),
    ("dcgan", 64, 3, 3),
    ("conv-vae", 28, 0, 1),
    ("mlp-gan", 28, 10, 1),
    ("mlp-vae", 28, 0, 3),
]


def settled(generator: nn.Module) -> nn.Module:
    """Give batch normalisations statistics that matter, as training does, and weights that make images."""
    torch.manual_seed(1)
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.01, 0.1)
    return generator.eval()


def family(name: str, size: int, classes: int, channels: int) -> tuple[bytes, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    config = ModelConfig(family=name, image_size=size, num_classes=classes, channels=channels, width=8, latent_dim=20)
    generator = settled(build_generator(config))
    assert isinstance(generator, Generator)
    feeds = {"latents": np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)}
    if classes:
        feeds["labels"] = np.arange(3) % classes
    return to_onnx(generator), feeds


class UpsampleGenerator(Generator):
    """Resize and convolve, with a residual: the other way to enlarge an image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.first = nn.Linear(config.latent_dim, 16 * 49)
        self.block = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2)
        )
        self.skip = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(16, 16, 1))
        self.last = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(16, 1, 3, padding=1), nn.Tanh())

    def decode(self, h_BF: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.first(h_BF)).view(-1, 16, 7, 7)
        return self.last(self.block(h) + self.skip(h))


@pytest.mark.parametrize(("name", "size", "classes", "channels"), FAMILIES)
@pytest.mark.parametrize("count", range(1, len(LOWERINGS) + 1))
def test_every_family_through_every_prefix(name: str, size: int, classes: int, channels: int, count: int) -> None:
    model, feeds = family(name, size, classes, channels)
    lowered = lower(model, tuple(LOWERINGS)[:count])
    before, after = run(model, feeds), run(lowered.model, feeds)
    np.testing.assert_allclose(after[0], before[0], rtol=0, atol=1e-5)
    assert np.abs(after[1].astype(int) - before[1]).max() <= 1
    assert np.mean(after[1] != before[1]) < 1e-3


@pytest.mark.parametrize(("name", "size", "classes", "channels"), FAMILIES)
def test_pixels_alone_after_all_lowerings(name: str, size: int, classes: int, channels: int) -> None:
    model, feeds = family(name, size, classes, channels)
    lowered = lower(model, tuple(LOWERINGS), outputs=["pixels"])
    before, (after,) = run(model, feeds)[1], run(lowered.model, feeds)
    assert np.mean(after != before) < 1e-3
    left = set(operators(lowered.model))
    assert not left & {"ConvTranspose", "BatchNormalization"}
    if "dcgan" in name or "conv" in name:
        assert min(lowered.changed[name] for name in ("subpixel", "activation-first", "pixels-first")) > 0
        order = operators(lowered.model)
        assert order.index("Cast") < len(order) - 1 - order[::-1].index("Reshape")  # bytes are what is moved


def test_a_thin_last_layer_is_merged() -> None:
    model, feeds = family("dcgan", 64, 0, 1)
    names = ("batchnorm", "dense", "subpixel", "activation-first", "thin-last")
    lowered = lower(model, names)
    assert lowered.changed["thin-last"] == 1
    np.testing.assert_allclose(run(lowered.model, feeds)[0], run(model, feeds)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("outputs", [None, ["pixels"]])
def test_an_upsampling_generator(outputs: list[str] | None) -> None:
    torch.manual_seed(0)
    generator = settled(UpsampleGenerator(ModelConfig(family="dcgan", image_size=28, latent_dim=20)))
    assert isinstance(generator, Generator)
    model = to_onnx(generator)
    feeds = {"latents": np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)}
    lowered = lower(model, tuple(LOWERINGS), outputs=outputs)
    assert lowered.changed["upsample-conv"] == 3
    before, after = run(model, feeds), run(lowered.model, feeds)
    if outputs is None:
        np.testing.assert_allclose(after[0], before[0], rtol=0, atol=1e-5)
    assert np.mean(after[-1] != before[-1]) < 1e-3


@pytest.mark.parametrize("axes", [1, 3])
def test_sound_and_volumes(axes: int) -> None:
    rng = np.random.default_rng(0)
    kernel, extra = (25, 1) if axes == 1 else (3, 1)
    stride, pad = (4, 11) if axes == 1 else (2, 1)
    how = {"strides": [stride] * axes, "pads": [pad] * 2 * axes, "output_padding": [extra] * axes}
    constants = {
        "w1": (rng.standard_normal((6, 4, *[kernel] * axes)) / np.sqrt(6 * kernel)).astype(np.float32),
        "w2": (rng.standard_normal((4, 1, *[kernel] * axes)) / np.sqrt(4 * kernel)).astype(np.float32),
    }
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w1"], ["h"], **how),
        helper.make_node("LeakyRelu", ["h"], ["r"], alpha=0.2),
        helper.make_node("ConvTranspose", ["r", "w2"], ["o"], **how),
        helper.make_node("Tanh", ["o"], ["y"]),
    ]
    size = (16,) if axes == 1 else (3, 4, 5)
    model = graph(nodes, constants, (6, *size))
    lowered = lower(model, tuple(LOWERINGS))
    assert lowered.changed["subpixel"] + lowered.changed["subpixel-split"] == 2
    assert lowered.changed["activation-first"] == 2
    x = {"x": rng.standard_normal((2, 6, *size)).astype(np.float32)}
    np.testing.assert_allclose(run(lowered.model, x)[0], run(model, x)[0], rtol=0, atol=1e-5)


def blocks(middle: list[onnx.NodeProto], constants: dict[str, np.ndarray], output: str = "y") -> bytes:
    nodes = [helper.make_node("DepthToSpace", ["x"], ["d"], blocksize=2), *middle]
    return graph(nodes, constants, (8, 3, 3), output=output)


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (helper.make_node("Softmax", ["d"], ["y"], axis=1), {}),
        (helper.make_node("Add", ["d", "c"], ["y"]), {"c": np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)}),
        (helper.make_node("Mul", ["d", "d"], ["y"]), {}),
        (helper.make_node("GlobalAveragePool", ["d"], ["y"]), {}),
    ],
)
def test_what_looks_beyond_one_value_stays(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> None:
    end = helper.make_node("Relu", ["y"], ["z"])
    model = blocks([node, end], constants, "z")
    lowered = lower(model, ("activation-first",))
    assert operators(lowered.model)[:2] == ["DepthToSpace", node.op_type]


def test_what_is_used_twice_stays() -> None:
    nodes = [helper.make_node("Relu", ["d"], ["r"]), helper.make_node("Add", ["r", "d"], ["y"])]
    model = blocks(nodes, {})
    assert lower(model, ("activation-first",)).changed == {"activation-first": 0}


def test_names_and_outputs_are_checked() -> None:
    model = blocks([helper.make_node("Relu", ["d"], ["y"])], {})
    with pytest.raises(ValueError, match=r"lowering 'nothing': known are .*batchnorm"):
        lower(model, ("nothing",))
    with pytest.raises(ValueError, match="output 'pixels': the graph has y"):
        lower(model, (), outputs=["pixels"])
    assert lower(model, ()).changed == {}
