"""The contract of every family, in every size, conditional or not."""

from __future__ import annotations

import pytest
import torch

from gen_engine.train.errors import ConfigError
from gen_engine.train.models import MODELS, ModelConfig, build_generator
from gen_engine.train.testing import ModelContract


class CountedContract(ModelContract):
    """The contract, and the size of the generator."""

    generator_parameters: int
    """Of the default configuration at 28×28×1, 10 classes."""

    def test_parameter_count(self) -> None:
        generator = build_generator(ModelConfig(family=self.family, image_size=28, num_classes=10))
        assert sum(p.numel() for p in generator.parameters()) == self.generator_parameters


class TestMlpGan(CountedContract):
    family = "mlp-gan"
    generator_parameters = 160 + 116 * 256 + 256 + 256 * 784 + 784


class TestDcgan(CountedContract):
    family = "dcgan"
    generator_parameters = 160 + 116 * 6272 + 2 * 128 + 128 * 64 * 16 + 2 * 64 + 64 * 16 + 1


class TestMlpVae(CountedContract):
    family = "mlp-vae"
    generator_parameters = TestMlpGan.generator_parameters


class TestConvVae(CountedContract):
    family = "conv-vae"
    generator_parameters = TestDcgan.generator_parameters


def test_every_family_has_a_contract_test() -> None:
    assert {contract.family for contract in CountedContract.__subclasses__()} == set(MODELS)


@pytest.mark.parametrize(("size", "maps"), [(32, 256), (64, 512), (128, 1024)])
def test_dcgan_stack_has_the_feature_maps_of_radford_et_al(size: int, maps: int) -> None:
    generator = build_generator(ModelConfig(family="dcgan", image_size=size, channels=3))
    convolutions = [layer for layer in generator.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert [layer.in_channels for layer in convolutions][:2] == [100, maps]
    assert convolutions[-1].in_channels == 64


def test_shipped_generator_fits_its_budget() -> None:
    config = ModelConfig(family="dcgan", image_size=28, num_classes=10, latent_dim=64, label_dim=16)
    assert sum(t.numel() * 4 for t in build_generator(config).state_dict().values()) < 2_750_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 48}, "image size 48 is not supported: use one of 28, 32, 64, 128"),
        ({"channels": 0}, "channels is 0"),
        ({"latent_dim": -1}, "latent-dim is -1"),
        ({"num_classes": -2}, "num-classes is -2"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(family="dcgan", **({"image_size": 28} | changes))


def test_unknown_family_names_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'stylegan': choose one of mlp-gan, dcgan"):
        build_generator(ModelConfig(family="stylegan", image_size=28))
