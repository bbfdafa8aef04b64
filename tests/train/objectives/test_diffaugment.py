"""Differentiable augmentation: what each transform does, that gradients pass, and how the probability adapts."""

from __future__ import annotations

import pytest
import torch

from gen_engine.train.errors import ConfigError
from gen_engine.train.objectives.diffaugment import UNIFORMS, DiffAugment
from gen_engine.train.options import DIFFAUGMENTS, GanOptions

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def augment(name: str, probability: float = 1.0) -> DiffAugment:
    return DiffAugment(GanOptions(diffaugment=name, diffaugment_probability=probability))


def uniforms(value: float = 0.0, count: int = 6) -> torch.Tensor:
    """Gates open, every amount at `value`."""
    drawn = torch.full((count, UNIFORMS), value)
    drawn[:, :3] = 0.0
    return drawn


@pytest.mark.parametrize("name", DIFFAUGMENTS)
def test_probability_0_changes_nothing_and_1_changes_every_image(name: str) -> None:
    drawn = torch.rand(6, UNIFORMS, generator=torch.Generator().manual_seed(1))
    drawn[:, 6] = 0.9  # a translation that is not by 0
    assert torch.equal(augment(name, 0.0)(IMAGES, drawn), IMAGES)
    changed = augment(name)(IMAGES, drawn) != IMAGES
    assert changed.flatten(1).any(dim=1).all()


def test_translation_moves_whole_pixels_and_repeats_the_border() -> None:
    drawn = uniforms(0.5)
    drawn[:, 6], drawn[:, 7] = 0.999, 0.0  # two rows on, two columns back: an eighth of 16
    moved = augment("translation")(IMAGES, drawn)
    torch.testing.assert_close(moved[:, :, :14, 2:], IMAGES[:, :, 2:, :14])
    torch.testing.assert_close(moved[:, :, 14:, 2:], IMAGES[:, :, 15:, :14].expand(-1, -1, 2, -1))
    still = augment("translation")(IMAGES, uniforms(0.5))
    torch.testing.assert_close(still, IMAGES)


def test_cutout_is_a_square_of_half_the_side() -> None:
    drawn = uniforms(0.5)
    hole = augment("cutout")(IMAGES, drawn) == 0.0
    assert hole[:, :, 4:12, 4:12].all()
    assert hole.sum() == 6 * 3 * 64


def test_colour_at_its_middle_changes_nothing() -> None:
    torch.testing.assert_close(augment("colour")(IMAGES, uniforms(0.5)), IMAGES)
    bright = uniforms(0.5)
    bright[:, 3] = 1.0
    torch.testing.assert_close(augment("colour")(IMAGES, bright), IMAGES + 0.5)
    grey = uniforms(0.5)
    grey[:, 4] = 0.0
    torch.testing.assert_close(augment("colour")(IMAGES, grey), IMAGES.mean(1, keepdim=True).expand_as(IMAGES))


def test_gradients_pass_twice() -> None:
    images = IMAGES.double().requires_grad_(True)
    drawn = torch.rand(6, UNIFORMS, generator=torch.Generator().manual_seed(2)).double()
    layer = augment("colour,translation,cutout")
    small = images.detach()[:1, :, :4, :4].clone().requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x, drawn[:1]).square(), small)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_probability_follows_the_sign_of_real_logits(sign: float) -> None:
    layer = DiffAugment(GanOptions(diffaugment="cutout", diffaugment_probability=0.5, diffaugment_target=0.6))
    for _ in range(300):
        layer.adapt(torch.full((128,), sign))
    assert (layer.probability > 0.51) if sign > 0 else (layer.probability < 0.49)
    for _ in range(10_000):
        layer.adapt(torch.full((128,), sign))
    assert layer.probability.item() == (1.0 if sign > 0 else 0.0)


def test_without_a_target_the_probability_stays() -> None:
    layer = augment("cutout", 0.25)
    layer.adapt(torch.ones(128))
    assert layer.probability.item() == 0.25


@pytest.mark.parametrize("value", ["color", "cutout,", "", "none,cutout"])
def test_unknown_transforms_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="colour, translation, cutout, with commas, or none"):
        GanOptions(diffaugment=value)
