"""The contract of every family, in every size, conditional or not."""

from __future__ import annotations

import pytest
import torch

from gen_engine.train.errors import ConfigError
from gen_engine.train.models import IMAGE_SIZES, MODELS, ModelConfig, build_auxiliary, build_generator, family_of


class ModelContract:
    """What every family promises; subclasses name one."""

    family: str
    generator_parameters: int
    """Of the default configuration at 28×28×1, 10 classes."""

    def config(self, **changes: int) -> ModelConfig:
        shapes = {"image_size": 28, "channels": 1, "num_classes": 3, "latent_dim": 6, "width": 4, "hidden": 8}
        return ModelConfig(family=self.family, **(shapes | changes))

    @pytest.mark.parametrize("num_classes", [0, 3])
    @pytest.mark.parametrize("image_size", IMAGE_SIZES)
    @pytest.mark.parametrize("channels", [1, 3, 5])
    def test_generator_and_auxiliary(self, num_classes: int, image_size: int, channels: int) -> None:
        torch.manual_seed(0)
        config = self.config(num_classes=num_classes, image_size=image_size, channels=channels)
        generator, auxiliary = build_generator(config), build_auxiliary(config)
        labels_B = torch.tensor([0, 1, 2, 1]) if num_classes else None

        images_BCHW = generator(torch.randn(4, 6), labels_B)

        assert images_BCHW.shape == (4, *generator.image_shape) == (4, channels, image_size, image_size)
        assert images_BCHW.dtype == torch.float32
        assert -1.0 <= images_BCHW.min() < images_BCHW.max() <= 1.0
        assert (generator.latent_dim, generator.num_classes) == (6, num_classes)
        self.check_auxiliary(auxiliary, images_BCHW, labels_B)
        for name, parameter in [*generator.named_parameters(), *auxiliary.named_parameters()]:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name

    def check_auxiliary(
        self, auxiliary: torch.nn.Module, images_BCHW: torch.Tensor, labels_B: torch.Tensor | None
    ) -> None:
        if family_of(self.family).kind == "gan":
            logits_B = auxiliary(images_BCHW, labels_B)
            assert logits_B.shape == (len(images_BCHW),)
            assert logits_B.dtype == torch.float32
            logits_B.square().sum().backward()
        else:
            mean_BZ, log_variance_BZ = auxiliary(images_BCHW, labels_B)
            assert mean_BZ.shape == log_variance_BZ.shape == (len(images_BCHW), 6)
            (mean_BZ.square() + log_variance_BZ.exp()).sum().backward()

    @pytest.mark.parametrize("image_size", [28, 32])
    def test_output_stays_in_range_whatever_the_latent(self, image_size: int) -> None:
        torch.manual_seed(0)
        generator = build_generator(self.config(num_classes=0, image_size=image_size)).eval()
        images_BCHW = generator(1e6 * torch.randn(4, 6))
        assert -1.0 <= images_BCHW.min() < -0.9
        assert 0.9 < images_BCHW.max() <= 1.0

    def test_parameter_count(self) -> None:
        generator = build_generator(ModelConfig(family=self.family, image_size=28, num_classes=10))
        assert sum(p.numel() for p in generator.parameters()) == self.generator_parameters

    def test_labels_are_required_exactly_when_conditional(self) -> None:
        z_BZ, labels_B, images_BCHW = torch.randn(2, 6), torch.tensor([0, 1]), torch.zeros(2, 1, 28, 28)
        for build, given in ((build_generator, z_BZ), (build_auxiliary, images_BCHW)):
            with pytest.raises(ValueError, match="conditional on 3 classes"):
                build(self.config())(given)
            with pytest.raises(ValueError, match="unconditional"):
                build(self.config(num_classes=0))(given, labels_B)

    def test_labels_change_the_image_and_the_output_of_the_auxiliary(self) -> None:
        torch.manual_seed(0)
        generator, auxiliary = build_generator(self.config()).eval(), build_auxiliary(self.config()).eval()
        zeros_B, ones_B = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
        z_BZ = torch.randn(2, 6)
        assert not torch.equal(generator(z_BZ, zeros_B), generator(z_BZ, ones_B))
        images_BCHW = generator(z_BZ, zeros_B)
        outputs = [
            torch.cat([torch.atleast_1d(t) for t in _as_tuple(auxiliary(images_BCHW, y))]) for y in (zeros_B, ones_B)
        ]
        assert not torch.equal(*outputs)

    def test_eval_mode_does_not_see_the_rest_of_the_batch(self) -> None:
        torch.manual_seed(0)
        generator = build_generator(self.config()).eval()
        z_BZ, labels_B = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
        torch.testing.assert_close(generator(z_BZ, labels_B)[:2], generator(z_BZ[:2], labels_B[:2]))


class TestMlpGan(ModelContract):
    family = "mlp-gan"
    generator_parameters = 160 + 116 * 256 + 256 + 256 * 784 + 784


class TestDcgan(ModelContract):
    family = "dcgan"
    generator_parameters = 160 + 116 * 6272 + 2 * 128 + 128 * 64 * 16 + 2 * 64 + 64 * 16 + 1


class TestMlpVae(ModelContract):
    family = "mlp-vae"
    generator_parameters = TestMlpGan.generator_parameters


class TestConvVae(ModelContract):
    family = "conv-vae"
    generator_parameters = TestDcgan.generator_parameters


def test_every_family_has_a_contract_test() -> None:
    assert {contract.family for contract in ModelContract.__subclasses__()} == set(MODELS)


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


def _as_tuple(value: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
