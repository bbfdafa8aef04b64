"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from gen_engine.train.errors import ConfigError
from gen_engine.train.objectives.losses import (
    LOSSES,
    Elbo,
    GanLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    SmoothedBce,
    Wasserstein,
)
from gen_engine.train.options import LossOptions

REAL = torch.tensor([0.0, math.log(3.0)])  # σ = 1/2, 3/4
FAKE = torch.tensor([0.0, -math.log(3.0)])  # σ = 1/2, 1/4


def test_non_saturating() -> None:
    expected_d = -(math.log(1 / 2) + math.log(3 / 4)) / 2 - (math.log(1 / 2) + math.log(3 / 4)) / 2
    expected_g = -(math.log(1 / 2) + math.log(1 / 4)) / 2
    assert NonSaturating().discriminator(REAL, FAKE).item() == pytest.approx(expected_d)
    assert NonSaturating().generator(FAKE).item() == pytest.approx(expected_g)


def test_minimax_generator_minimises_what_the_discriminator_maximises() -> None:
    expected_g = (math.log(1 / 2) + math.log(3 / 4)) / 2
    assert Minimax().generator(FAKE).item() == pytest.approx(expected_g)
    assert Minimax().discriminator(REAL, FAKE) == NonSaturating().discriminator(REAL, FAKE)


def test_smoothing_is_one_sided() -> None:
    real = -(0.9 * math.log(1 / 2) + 0.1 * math.log(1 / 2) + 0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)) / 2
    fake = -(math.log(1 / 2) + math.log(3 / 4)) / 2
    assert SmoothedBce(0.1).discriminator(REAL, FAKE).item() == pytest.approx(real + fake)
    assert SmoothedBce(0.1).generator(FAKE) == NonSaturating().generator(FAKE)
    assert SmoothedBce(0.0).discriminator(REAL, FAKE).item() == pytest.approx(
        NonSaturating().discriminator(REAL, FAKE).item()
    )


def test_smoothed_optimum_is_at_the_target_not_at_infinity() -> None:
    at = {
        logit: SmoothedBce(0.1).discriminator(torch.tensor([logit]), torch.tensor([-20.0]))
        for logit in (0.0, math.log(9), 20.0)
    }
    assert at[math.log(9)] < at[0.0]
    assert at[math.log(9)] < at[20.0]


def test_wasserstein_and_hinge() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert Wasserstein().discriminator(real, fake).item() == pytest.approx(-1.375 - 1.25)
    assert Hinge().discriminator(real, fake).item() == pytest.approx(0.5 / 2 + 1.25 / 2)
    assert Wasserstein().generator(fake).item() == Hinge().generator(fake).item() == pytest.approx(1.375)


def test_least_squares() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert LeastSquares().discriminator(real, fake).item() == pytest.approx(0.5 * (1 + 0.25) / 2 + 0.5 * 9 / 2)
    assert LeastSquares().generator(fake).item() == pytest.approx(0.5 * (16 + 1) / 2)


def test_relativistic_pairs_each_generated_image_with_a_real_one() -> None:
    expected_d = (math.log(2) + math.log(1 + 1 / 9)) / 2  # fake − real is 0 and −2 log 3
    expected_g = (math.log(2) + math.log(1 + 9)) / 2
    assert Relativistic().discriminator(REAL, FAKE).item() == pytest.approx(expected_d)
    assert Relativistic().generator(FAKE, REAL).item() == pytest.approx(expected_g)
    shifted = Relativistic().discriminator(REAL + 5, FAKE + 5)
    assert shifted.item() == pytest.approx(expected_d), "only differences count"
    with pytest.raises(ValueError, match="logits of real images"):
        Relativistic().generator(FAKE)


GAN_LOSSES: list[GanLoss] = [
    NonSaturating(),
    Minimax(),
    SmoothedBce(0.1),
    Hinge(),
    LeastSquares(),
    Wasserstein(),
    Relativistic(),
]


@pytest.mark.parametrize("loss", GAN_LOSSES, ids=lambda loss: type(loss).__name__)
def test_gan_losses_are_finite_at_extreme_logits(loss: GanLoss) -> None:
    big = torch.tensor([1e4, -1e4])
    assert loss.discriminator(big, big).isfinite()
    assert loss.generator(big, big).isfinite()


@pytest.mark.parametrize("loss", GAN_LOSSES, ids=lambda loss: type(loss).__name__)
def test_each_player_moves_generated_logits_the_other_way(loss: GanLoss) -> None:
    real, fake = torch.zeros(4), torch.zeros(4, requires_grad=True)
    (of_discriminator,) = torch.autograd.grad(loss.discriminator(real, fake), fake)
    of_generator = torch.autograd.grad(loss.generator(fake, real), fake)[0]
    assert (of_generator < 0).all()
    assert (of_discriminator > 0).all() or isinstance(loss, LeastSquares)  # whose discriminator is content at 0


def test_elbo() -> None:
    images = torch.zeros(2, 1, 2, 2)
    decoded = torch.full((2, 1, 2, 2), 0.5)
    mean = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    log_variance = torch.tensor([[0.0, math.log(4.0)], [0.0, 0.0]])
    expected_reconstruction = 0.5 * 4 * 0.25
    expected_kl = ((0.5 * 1.0) + 0.5 * (4.0 - 1.0 - math.log(4.0))) / 2

    loss, reconstruction, kl = Elbo(beta=3.0)(decoded, images, mean, log_variance)

    assert reconstruction.item() == pytest.approx(expected_reconstruction)
    assert kl.item() == pytest.approx(expected_kl)
    assert loss.item() == pytest.approx(expected_reconstruction + 3.0 * expected_kl)


def test_kl_agrees_with_torch() -> None:
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    zeros = torch.zeros(5, 1, 1, 1)
    torch.testing.assert_close(Elbo()(zeros, zeros, mean, log_variance)[2], expected)


def test_options_reach_the_losses() -> None:
    options = LossOptions(label_smoothing=0.25, beta=0.5)
    assert LOSSES["bce"](options) == SmoothedBce(0.25)
    assert LOSSES["elbo"](options) == Elbo(0.5)


@pytest.mark.parametrize(
    "bad", [{"label_smoothing": 0.5}, {"label_smoothing": -0.1}, {"beta": -1.0}, {"beta": math.nan}]
)
def test_impossible_options_are_refused(bad: dict[str, float]) -> None:
    ((name, value),) = bad.items()
    with pytest.raises(ConfigError, match=f"{name.replace('_', '-')} is {value}"):
        LossOptions(**bad)
