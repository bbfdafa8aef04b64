"""The contract of every family, in every size, conditional or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gen_engine.train.errors import ConfigError
from gen_engine.train.models import MODELS, ModelConfig, build_auxiliary, build_generator
from gen_engine.train.models.class_norm import ClassNorm
from gen_engine.train.models.style import StyledConv
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


class TestResidual(CountedContract):
    family = "residual"
    # A dense map of 128 × 7 × 7, blocks 128 → 64 and 64 → 64, and the last convolution.
    generator_parameters = (
        160
        + 117 * 6272
        + (2 * 128 + 2 * 64 + (9 * 128 + 1) * 64 + (9 * 64 + 1) * 64 + 129 * 64)
        + (2 * 64 + 2 * 64 + 2 * (9 * 64 + 1) * 64 + 65 * 64)
        + (2 * 64 + 9 * 64 + 1)
    )


class TestStyle(CountedContract):
    family = "style"
    # Two dense layers of 256, a constant of 128 × 7 × 7, and convolutions 128 → 128, 128 → 64 and three of 64 → 64,
    # each with a style's scale for every input and a bias for every output.
    generator_parameters = (
        160
        + (117 * 256 + 257 * 256)
        + 6272
        + (9 * 128 * 128 + 257 * 128 + 128)
        + (9 * 128 * 64 + 257 * 128 + 64)
        + 3 * (9 * 64 * 64 + 257 * 64 + 64)
        + 65
    )


class TestMlpVae(CountedContract):
    family = "mlp-vae"
    generator_parameters = TestMlpGan.generator_parameters


class TestConvVae(CountedContract):
    family = "conv-vae"
    generator_parameters = TestDcgan.generator_parameters


@pytest.mark.parametrize("family", ["dcgan", "residual"])
def test_class_norm_gives_each_class_its_scale_and_shift(family: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(family=family, image_size=28, num_classes=3, width=4, hidden=8, class_norm=True)
    generator = build_generator(config).eval()
    norms = [module for module in generator.modules() if isinstance(module, ClassNorm)]
    x_BCHW = torch.randn(2, norms[0].scale.out_features, 5, 5)
    embedding_BE = torch.randn(2, config.label_dim)

    normed_BCHW = norms[0](x_BCHW, embedding_BE)

    assert len(norms) >= 2
    for one in range(2):
        scale_C = 1 + norms[0].scale(embedding_BE[one])
        expected = (
            x_BCHW[one] / (1 + 1e-5) ** 0.5 * scale_C[:, None, None] + norms[0].shift(embedding_BE[one])[:, None, None]
        )
        torch.testing.assert_close(normed_BCHW[one], expected)


@pytest.mark.parametrize("conditioning", ["projection", "auxiliary", "both"])
@pytest.mark.parametrize("family", ["mlp-gan", "dcgan", "residual"])
def test_discriminators_use_labels_as_they_are_told(family: str, conditioning: str) -> None:
    config = ModelConfig(family=family, image_size=28, num_classes=3, width=4, hidden=8, conditioning=conditioning)
    auxiliary: Any = build_auxiliary(config).eval()
    images_BCHW = torch.randn(2, 1, 28, 28)

    logits_B, classes_BK = auxiliary.judge(images_BCHW, torch.tensor([0, 1]))
    others_B, _ = auxiliary.judge(images_BCHW, torch.tensor([2, 2]))

    assert (classes_BK is None) == (conditioning == "projection")
    assert classes_BK is None or classes_BK.shape == (2, 3)
    assert torch.equal(logits_B, others_B) == (conditioning == "auxiliary")


def test_demodulated_convolutions_keep_the_variance_whatever_the_style() -> None:
    torch.manual_seed(0)
    layer = StyledConv(64, 64, 8)
    x_BIHW = torch.randn(4, 64, 16, 16)
    for size in (0.1, 1.0, 30.0):
        with torch.no_grad():
            out_BOHW = layer(x_BIHW, size * torch.randn(4, 8))[:, :, 1:-1, 1:-1]
        assert out_BOHW.square().mean() == pytest.approx(1.0, rel=0.15)  # a leaky ReLU halves it, √2 doubles it


def test_unknown_conditioning_is_refused() -> None:
    with pytest.raises(ConfigError, match="conditioning is 'labels': use projection, auxiliary or both"):
        ModelConfig(family="dcgan", image_size=28, conditioning="labels")


class TestResVae(CountedContract):
    family = "res-vae"
    generator_parameters = TestResidual.generator_parameters - 128 * 49  # one latent chooses the component


class TestVaeGan(CountedContract):
    family = "vae-gan"
    generator_parameters = TestResVae.generator_parameters


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
    with pytest.raises(ConfigError, match=r"unknown model 'wgan': .*choose one of mlp-gan, dcgan"):
        build_generator(ModelConfig(family="wgan", image_size=28))
