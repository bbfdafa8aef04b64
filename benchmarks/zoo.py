"""The generators of the benchmarks: six typical architectures with seeded random weights, the same in every run.

They compute what trained ones compute; only their samples mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.engine.identity.bundle import GENERATOR, Bundle, LatentSpec, OutputSpec, write_bundle
from gen_engine.export.distill.flops import count_flops
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.models import ModelConfig
from gen_engine.train.models.contract import Generator


class Stack(Generator):
    """A generator of given layers, whose input is the latents [B, Z]."""

    def __init__(self, layers: nn.Module, latent_dim: int, shape: tuple[int, int, int]) -> None:
        super().__init__(ModelConfig(family="dcgan", image_size=28, latent_dim=latent_dim))
        self.image_shape = shape
        self.layers = layers

    def decode(self, h_BF: Tensor) -> Tensor:
        images: Tensor = self.layers(h_BF)
        return images


def up(layer: type[nn.Module], norm: type[nn.Module], inputs: int, outputs: int, **how: int) -> list[nn.Module]:
    """Return a transposed convolution, its normalisation and its activation."""
    return [layer(inputs, outputs, bias=False, **how), norm(outputs), nn.ReLU()]


def doubled(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a nearest-neighbour doubling, its convolution, its normalisation and its activation."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [nn.Upsample(scale_factor=2), convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


_2D, _1D = (nn.ConvTranspose2d, nn.BatchNorm2d), (nn.ConvTranspose1d, nn.BatchNorm1d)
_K3: dict[str, int] = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
_K4: dict[str, int] = {"kernel_size": 4, "stride": 2, "padding": 1}
_K5: dict[str, int] = {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1}
_K25: dict[str, int] = {"kernel_size": 25, "stride": 4, "padding": 11, "output_padding": 1}


def _dcgan_64() -> Generator:
    layers = [nn.Unflatten(1, (100, 1, 1)), *up(*_2D, 100, 512, kernel_size=4)]
    for inputs, outputs in ((512, 256), (256, 128), (128, 64)):
        layers += up(*_2D, inputs, outputs, **_K4)
    return Stack(nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, **_K4), nn.Tanh()), 100, (3, 64, 64))


def _dcgan_28() -> Generator:
    layers = [nn.Linear(100, 128 * 49), nn.Unflatten(1, (128, 7, 7)), *up(*_2D, 128, 64, **_K5)]
    return Stack(nn.Sequential(*layers, nn.ConvTranspose2d(64, 1, **_K5), nn.Tanh()), 100, (1, 28, 28))


def _conv_vae() -> Generator:
    layers = [
        nn.Linear(128, 64 * 64),
        nn.Unflatten(1, (64, 8, 8)),
        *up(*_2D, 64, 32, **_K3),
        *up(*_2D, 32, 32, **_K3),
    ]
    layers += [*up(*_2D, 32, 32, **_K3), nn.Conv2d(32, 3, 3, padding=1), nn.Tanh()]
    return Stack(nn.Sequential(*layers), 128, (3, 64, 64))


def _wavegan() -> Generator:
    layers = [nn.Linear(100, 512 * 16), nn.Unflatten(1, (512, 16))]
    for inputs, outputs in ((512, 256), (256, 128), (128, 64), (64, 32)):
        layers += up(*_1D, inputs, outputs, **_K25)
    layers += [nn.ConvTranspose1d(32, 1, **_K25), nn.Tanh(), nn.Unflatten(2, (1, 16384))]
    return Stack(nn.Sequential(*layers), 100, (1, 1, 16384))


def _upsample_conv() -> Generator:
    layers = [nn.Linear(100, 256 * 64), nn.Unflatten(1, (256, 8, 8)), *doubled(256, 128), *doubled(128, 64)]
    layers += [*doubled(64, 32), nn.Conv2d(32, 3, 3, padding=1), nn.Tanh()]
    return Stack(nn.Sequential(*layers), 100, (3, 64, 64))


def _mlp() -> Generator:
    layers = [nn.Linear(100, 256), nn.ReLU(), nn.Linear(256, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))]
    return Stack(nn.Sequential(*layers), 100, (1, 28, 28))


def zoo() -> dict[str, Callable[[], Generator]]:
    """Return the generators: name → makes it."""
    return {
        "dcgan-64": _dcgan_64,
        "dcgan-28": _dcgan_28,
        "conv-vae": _conv_vae,
        "wavegan": _wavegan,
        "upsample-conv": _upsample_conv,
        "mlp": _mlp,
    }


def well_scaled(generator: Generator) -> Generator:
    """Return it with batch statistics of its own activations, and samples that fill the range."""
    generator.train()
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over the batches below
    with torch.no_grad():
        for _ in range(4):
            generator(torch.randn(64, generator.latent_dim))
        generator.eval()
        last = [m for m in generator.modules() if hasattr(m, "weight") and not isinstance(m, nn.BatchNorm2d)][-1]
        spread = torch.atanh(generator(torch.randn(64, generator.latent_dim)).clamp(-0.9999, 0.9999)).std()
        last.weight /= spread
    return generator


def bundle_of(name: str, generator: Generator, folder: Path) -> Bundle:
    """Return the generator as a bundle."""
    channels, height, width = generator.image_shape
    return write_bundle(
        folder / f"{name}.gen",
        name=name,
        latent=LatentSpec(dim=generator.latent_dim, distribution="normal"),
        labels=None,
        output=OutputSpec(kind="image", shape=(height, width, channels)),
        generator=to_onnx(generator),
        training={},
        parity={},
    )


@dataclass(frozen=True, eq=False)
class ZooModel:
    """One generator of the zoo, in torch and as a bundle."""

    name: str
    generator: Generator
    bundle: Bundle

    def copy(self) -> Generator:
        """Return a copy of the generator, because running one may change it."""
        other = zoo()[self.name]()
        other.load_state_dict(self.generator.state_dict())
        return other.eval()

    @property
    def flops(self) -> float:
        """Multiplications and additions per sample, as exported; a lowering may need fewer."""
        return nominal_flops(self.bundle.load(GENERATOR))

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's pixels."""
        return int(np.prod(self.bundle.output.shape))


def make_zoo_model(name: str, folder: Path, *, scaled: bool = True) -> ZooModel:
    """Return one of :func:`zoo`. Unscaled it is made faster, computes as much, and its samples are nearly constant."""
    torch.manual_seed(0)
    generator = zoo()[name]()
    generator = well_scaled(generator) if scaled else generator.eval()
    return ZooModel(name, generator, bundle_of(name, generator, folder))


def nominal_flops(model: bytes) -> float:
    """Return multiplications and additions per sample, in the matrix products of the graph as exported."""
    inputs = onnx.load_from_string(model).graph.input
    return count_flops(model, {one.name: _one_sample(one) for one in inputs})


def _one_sample(value: onnx.ValueInfoProto) -> NDArray[Any]:
    tensor = value.type.tensor_type
    _, *sizes = [dim.dim_value for dim in tensor.shape.dim]
    return np.zeros((1, *sizes), onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
