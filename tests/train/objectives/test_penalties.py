"""Penalties on critics whose gradients are known."""

from __future__ import annotations

import pytest
import torch

from gen_engine.train.objectives.penalties import one_centred, zero_centred

IMAGES = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
SLOPE = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))


def linear(images_BCHW: torch.Tensor) -> torch.Tensor:
    return (images_BCHW * SLOPE).flatten(1).sum(dim=1)


def test_zero_centred_is_half_the_squared_norm_of_the_gradient() -> None:
    assert zero_centred(linear, IMAGES).item() == pytest.approx(0.5 * SLOPE.square().sum().item())
    quadratic = zero_centred(lambda x: 0.5 * x.square().flatten(1).sum(dim=1), IMAGES)
    assert quadratic.item() == pytest.approx(0.5 * IMAGES.square().sum().item() / len(IMAGES))


def test_one_centred_is_nothing_for_a_slope_of_length_one() -> None:
    shares_B = torch.rand(4)
    unit = SLOPE / SLOPE.norm()
    steep = one_centred(lambda x: 3 * (x * unit).flatten(1).sum(dim=1), IMAGES, -IMAGES, shares_B)
    assert steep.item() == pytest.approx(4.0, rel=1e-5)
    assert one_centred(lambda x: (x * unit).flatten(1).sum(dim=1), IMAGES, -IMAGES, shares_B).item() < 1e-9


def test_one_centred_looks_between_real_and_generated_images() -> None:
    seen = []

    def critic(images_BCHW: torch.Tensor) -> torch.Tensor:
        seen.append(images_BCHW.detach())
        return linear(images_BCHW)

    one_centred(critic, IMAGES, torch.zeros_like(IMAGES), torch.tensor([0.0, 1.0, 0.5, 0.25]))
    torch.testing.assert_close(seen[0], IMAGES * torch.tensor([0.0, 1.0, 0.5, 0.25])[:, None, None, None])


def test_penalties_reach_the_weights_and_not_the_images() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    images = IMAGES.clone().requires_grad_(True)
    zero_centred(lambda x: weight * linear(x), images).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(2.0 * SLOPE.square().sum().item())
    assert images.grad is None


def test_a_flat_critic_has_a_finite_gradient() -> None:
    weight = torch.zeros((), requires_grad=True)
    one_centred(lambda x: weight * linear(x), IMAGES, -IMAGES, torch.rand(4)).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.isfinite()
