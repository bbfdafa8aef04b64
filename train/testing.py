"""Contract tests for plugins: what every model family must do, as a class to subclass once per family.

It needs pytest. A package that adds a family tests it so::

    import pytest

    pytest.register_assert_rewrite("gen_engine.train.testing")

    from gen_engine.train.testing import ModelContract

    class TestMine(ModelContract):
        family = "mine"

Legend: B batch, Z latent dimensions, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from gen_engine.train.models import IMAGE_SIZES, ModelConfig, build_auxiliary, build_generator, family_of


class ModelContract:
    """Every family passes these; a subclass names one."""

    family: ClassVar[str]
    """What ``--model`` calls it."""

    def config(self, **changes: Any) -> ModelConfig:
        """Return a small configuration of the family."""
        shapes = {"image_size": 28, "channels": 1, "num_classes": 3, "latent_dim": 6, "width": 4, "hidden": 8}
        settings: dict[str, Any] = shapes | changes
        return ModelConfig(family=self.family, **settings)

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
        """Check what the auxiliary returns, and send gradients through both networks."""
        if family_of(self.family).kind == "gan":
            logits_B = auxiliary(images_BCHW, labels_B)
            assert logits_B.shape == (len(images_BCHW),)
            assert logits_B.dtype == torch.float32
            logits_B.square().sum().backward()
        else:
            code_dim = build_generator(self.config()).code_dim
            mean_BZ, log_variance_BZ = auxiliary(images_BCHW, labels_B)
            assert mean_BZ.shape == log_variance_BZ.shape == (len(images_BCHW), code_dim)
            total = (mean_BZ.square() + log_variance_BZ.exp()).sum()
            if family_of(self.family).kind == "vae-gan":
                discriminator: Any = auxiliary.discriminator
                total = total + discriminator(images_BCHW, labels_B).square().sum()
            total.backward()

    @pytest.mark.parametrize("image_size", [28, 32])
    def test_output_stays_in_range_whatever_the_latent(self, image_size: int) -> None:
        torch.manual_seed(0)
        generator = build_generator(self.config(num_classes=0, image_size=image_size)).eval()
        images_BCHW = generator(1e6 * torch.randn(4, 6))
        assert -1.0 <= images_BCHW.min() < images_BCHW.max() <= 1.0

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
        outputs = [torch.cat([t.reshape(-1) for t in _as_tuple(auxiliary(images_BCHW, y))]) for y in (zeros_B, ones_B)]
        assert not torch.equal(*outputs)

    def test_eval_mode_does_not_see_the_rest_of_the_batch(self) -> None:
        torch.manual_seed(0)
        generator = build_generator(self.config()).eval()
        z_BZ, labels_B = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
        torch.testing.assert_close(generator(z_BZ, labels_B)[:2], generator(z_BZ[:2], labels_B[:2]))


def _as_tuple(value: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
