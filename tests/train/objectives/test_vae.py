"""Losses of VAEs against numbers worked out by hand, and the step of a VAE with a discriminator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gen_engine.train.config import TrainConfig
from gen_engine.train.errors import ConfigError
from gen_engine.train.objectives.losses import LOSSES, ROUNDING_VARIANCE, SigmaElbo
from gen_engine.train.options import LossOptions, VaeOptions
from gen_engine.train.runs.state import RunState

MakeConfig = Callable[..., TrainConfig]


def test_sigma_elbo_is_the_gaussian_likelihood_at_its_best_variance() -> None:
    images, decoded = torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)
    mean, log_variance = torch.tensor([[1.0], [1.0]]), torch.zeros(2, 1)
    loss, reconstruction, kl = SigmaElbo(beta=3.0)(decoded, images, mean, log_variance)
    assert reconstruction.item() == pytest.approx(2.0 * math.log(0.25 + ROUNDING_VARIANCE))
    assert kl.item() == pytest.approx(0.5)
    assert loss.item() == pytest.approx(reconstruction.item() + 1.5)
    for variance in (0.2, 0.3):  # any other variance is less likely
        at = torch.distributions.Normal(0.0, variance**0.5).log_prob(decoded).sum().item()
        best = torch.distributions.Normal(0.0, 0.5).log_prob(decoded).sum().item()
        assert at < best
        assert best == pytest.approx(-2 * reconstruction.item() - 8 * 0.5 * (math.log(2 * math.pi) + 1), abs=1e-3)


def test_sigma_elbo_is_finite_where_nothing_is_wrong() -> None:
    decoded = torch.zeros(2, 1, 2, 2, requires_grad=True)
    zeros = torch.zeros(2, 1)
    loss, _, _ = SigmaElbo()(decoded, torch.zeros(2, 1, 2, 2), zeros, zeros)
    loss.backward()
    assert loss.isfinite()
    assert decoded.grad is not None
    assert decoded.grad.isfinite().all()


def test_warmth_scales_the_kl_term_alone() -> None:
    images, decoded, mean = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1)
    zeros = torch.zeros(1, 1)
    loss, reconstruction, kl = SigmaElbo(2.0)(decoded, images, mean, zeros, torch.tensor(0.25))
    assert loss.item() == pytest.approx((reconstruction + 0.5 * kl).item())


def test_options_reach_the_loss() -> None:
    assert LOSSES["sigma-elbo"](LossOptions(beta=0.5)) == SigmaElbo(0.5)


@pytest.mark.parametrize("bad", [{"beta_warmup": -1.0}, {"adversarial": math.nan}])
def test_impossible_options_are_refused(bad: dict[str, float]) -> None:
    ((name, value),) = bad.items()
    with pytest.raises(ConfigError, match=f"{name.replace('_', '-')} is {value}"):
        VaeOptions(**bad)


def moved(config: TrainConfig, images_BCHW: torch.Tensor) -> tuple[dict[str, float], dict[str, bool]]:
    """The losses of a step, and which networks it moved."""
    state = RunState(config)
    auxiliary: Any = state.auxiliary
    networks = {"decoder": state.generator, "encoder": auxiliary.encoder, "discriminator": auxiliary.discriminator}
    before = {name: [p.clone() for p in network.parameters()] for name, network in networks.items()}
    state.take_step.begin(0, 10)
    losses = state.take_step(images_BCHW, torch.arange(8) % 2, state.rng)
    return losses, {
        name: all(not torch.equal(a, b) for a, b in zip(before[name], network.parameters(), strict=True))
        for name, network in networks.items()
    }


def test_a_step_of_vae_gan_moves_every_network(make_config: MakeConfig) -> None:
    losses, networks = moved(make_config("vae-gan"), torch.randn(8, 1, 28, 28).clamp(-1, 1))
    assert losses.keys() == {"loss", "reconstruction", "kl", "d", "g"}
    assert losses["loss"] == pytest.approx(losses["reconstruction"] + losses["kl"] + 200 * losses["g"], rel=1e-4)
    assert all(networks.values())


def test_a_bad_step_of_vae_gan_moves_none(make_config: MakeConfig) -> None:
    images_BCHW = torch.zeros(8, 1, 28, 28)
    images_BCHW[3, 0, 5, 5] = math.nan
    losses, networks = moved(make_config("vae-gan"), images_BCHW)
    assert math.isnan(losses["loss"])
    assert not any(networks.values())


def test_without_weight_the_discriminator_changes_nothing(make_config: MakeConfig) -> None:
    """The decoder of `vae-gan` at weight 0 takes the step of `res-vae`; both begin with the same weights."""
    after = []
    for family in ("vae-gan", "res-vae"):
        state = RunState(make_config(family, vae_options=VaeOptions(adversarial=0.0)))
        images_BCHW = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
        state.take_step(images_BCHW, torch.arange(8) % 2, state.rng)
        after.append(state.generator.state_dict())
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])
