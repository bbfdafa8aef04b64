"""First weights from a teacher: exact where nothing is lost, better than random weights where something is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gen_engine.export.distill.prune import inherit, read_stack
from gen_engine.export.distill.reconstruct import fit_dense, fit_transposed
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.models import Generator, ModelConfig, build_generator

SHAPES: dict[str, dict[str, Any]] = {
    "dcgan-28": {"family": "dcgan", "image_size": 28, "num_classes": 3},
    "dcgan-32": {"family": "dcgan", "image_size": 32, "channels": 3},
    "mlp-gan": {"family": "mlp-gan", "image_size": 28, "num_classes": 3},
}


def make(shape: str, size: int, seed: int = 0) -> Generator:
    """A generator whose activations have the spread that training gives them."""
    torch.manual_seed(seed)
    config = ModelConfig(latent_dim=6, label_dim=4, width=size, hidden=size, **SHAPES[shape])
    generator = build_generator(config)
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.bias.uniform_(-0.5, 0.5)
            elif isinstance(module, nn.ConvTranspose2d | nn.Linear):
                module.weight.mul_(4.0)
        for _ in range(4):
            generator.train()(*inputs(generator, 64))
    return generator.eval()


def inputs(generator: Generator, count: int, seed: int = 1) -> tuple[Tensor, Tensor | None]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % generator.num_classes if generator.num_classes else None
    return torch.randn(count, generator.latent_dim, generator=draw), labels


def feeds(generator: Generator, count: int = 256) -> dict[str, Any]:
    z, labels = inputs(generator, count, seed=2)
    return {"latents": z.numpy()} | ({} if labels is None else {"labels": labels.numpy()})


def error(student: Generator, teacher: Generator) -> float:
    with torch.no_grad():
        return float((student.eval()(*inputs(teacher, 64)) - teacher(*inputs(teacher, 64))).abs().mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_as_wide_a_student_is_the_teacher(shape: str) -> None:
    teacher, student = make(shape, 8), make(shape, 8, seed=5)
    assert error(student, teacher) > 0.05
    assert inherit(student, to_onnx(teacher), feeds(teacher))
    assert error(student, teacher) < 0.01
    student.train()
    with torch.no_grad():  # and normalisation by the batch changes little
        made = student(*inputs(teacher, 64))
        assert float((made - teacher(*inputs(teacher, 64))).abs().mean()) < 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_a_narrower_student_begins_nearer_than_random(shape: str) -> None:
    teacher, student = make(shape, 12), make(shape, 8, seed=5)
    before = error(student, teacher)
    assert inherit(student, to_onnx(teacher), feeds(teacher))
    assert error(student, teacher) < 0.6 * before


def test_channels_that_nothing_reads_are_the_ones_removed() -> None:
    teacher, student = make("dcgan-28", 8), make("dcgan-28", 4, seed=5)
    layers = [one for one in teacher.layers if isinstance(one, nn.ConvTranspose2d)]  # type: ignore[union-attr]
    with torch.no_grad():
        for layer in layers:
            layer.weight[::2] = 0.0  # every other channel before it is not read
    assert inherit(student, to_onnx(teacher), feeds(teacher))
    assert error(student, teacher) < 0.01


@pytest.mark.parametrize("family", ["residual", "style"])
def test_another_architecture_leaves_the_student_as_it_is(family: str) -> None:
    torch.manual_seed(0)
    teacher = build_generator(ModelConfig(family=family, image_size=28, latent_dim=6, width=4)).eval()
    model = to_onnx(teacher)
    student = build_generator(ModelConfig(family="dcgan", image_size=28, latent_dim=6, width=2))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert read_stack(model) is None
    assert not inherit(student, model, feeds(teacher, 8))
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


@pytest.mark.parametrize(
    "other",
    [
        {"image_size": 32},
        {"channels": 3},
        {"latent_dim": 7},
        {"num_classes": 3},
        {"width": 9},
    ],
)
def test_a_student_of_other_shapes_is_not_filled(other: dict[str, Any]) -> None:
    common = {"family": "dcgan", "image_size": 28, "latent_dim": 6, "width": 8}
    teacher = build_generator(ModelConfig(**common)).eval()
    student = build_generator(ModelConfig(**(common | other)))
    assert not inherit(student, to_onnx(teacher), feeds(teacher, 8))


@given(
    inputs_=st.integers(1, 3),
    outputs=st.integers(1, 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_least_squares_finds_the_transposed_convolution(
    inputs_: int, outputs: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = nn.ConvTranspose2d(inputs_, outputs, kernel_size=4, stride=2, padding=1)
    x = torch.randn(80, inputs_, height, width)
    with torch.no_grad():
        wanted = layer(x)
        found = nn.ConvTranspose2d(inputs_, outputs, kernel_size=4, stride=2, padding=1)
        weight, bias = fit_transposed(x, wanted)
        found.weight.copy_(weight)
        assert found.bias is not None
        found.bias.copy_(bias)
        assert float((found(x) - wanted).abs().max()) < 0.05


def test_least_squares_finds_the_dense_layer() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 7), torch.randn(400, 5)
    with torch.no_grad():
        weight, bias = fit_dense(x, layer(x))
        np.testing.assert_allclose(weight.T, layer.weight, atol=0.01)
        np.testing.assert_allclose(bias, layer.bias, atol=0.01)
