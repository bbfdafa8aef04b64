"""Mixtures against known answers, and the prior of a generator: what it draws, in torch and in the exported graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import ConfigError
from gen_engine.train.models import ModelConfig, build_generator
from gen_engine.train.models.mixture import fit_mixture
from gen_engine.train.models.prior import COMPONENTS, NEVER, MixturePrior, PriorGenerator, between_bfloat16
from gen_engine.train.options import VaeOptions
from gen_engine.train.runs.checkpoint import load_generator
from gen_engine.train.runs.events import StepDone
from gen_engine.train.runs.loop import run_training

COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_gaussians(count: int = 4000) -> Tensor:
    """A quarter at (-3, 0), independent; the rest at (3, 1), correlated."""
    noise_ND = torch.randn(count, 2, generator=rng(), dtype=torch.float64)
    left = torch.tensor([-3.0, 0.0]) + 0.5 * noise_ND[: count // 4]
    right = torch.tensor([3.0, 1.0]) + noise_ND[count // 4 :] @ torch.linalg.cholesky(COVARIANCE).T
    return torch.cat([left, right])


def test_two_gaussians_are_recovered() -> None:
    mixture = fit_mixture(two_gaussians(), 2, rng())
    order = mixture.means_KD[:, 0].argsort()
    close = {"atol": 0.06, "rtol": 0.0, "check_dtype": False}
    torch.testing.assert_close(
        mixture.weights_K[order], torch.tensor([0.25, 0.75]), atol=1e-3, rtol=0, check_dtype=False
    )
    torch.testing.assert_close(mixture.means_KD[order], torch.tensor([[-3.0, 0.0], [3.0, 1.0]]), **close)
    covariances = (mixture.factors_KDD @ mixture.factors_KDD.transpose(1, 2))[order]
    torch.testing.assert_close(covariances, torch.stack([0.25 * torch.eye(2), COVARIANCE]), **close)


def test_log_likelihood_is_torch_s() -> None:
    rows_ND = two_gaussians(200)
    mixture = fit_mixture(rows_ND, 3, rng())
    parts = torch.distributions.MultivariateNormal(mixture.means_KD, scale_tril=mixture.factors_KDD)
    expected_N = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(mixture.weights_K), parts
    ).log_prob(rows_ND)
    torch.testing.assert_close(mixture.log_likelihood(rows_ND), expected_N)


def test_more_components_fit_no_worse_and_the_same_rows_fit_alike() -> None:
    rows_ND = two_gaussians()
    one, two, again = (fit_mixture(rows_ND, k, rng()) for k in (1, 2, 2))
    assert two.log_likelihood(rows_ND).mean() > one.log_likelihood(rows_ND).mean() + 0.5
    assert torch.equal(two.factors_KDD, again.factors_KDD)


@pytest.mark.parametrize(
    "rows_ND",
    [torch.ones(1, 3), torch.ones(50, 3), torch.arange(6.0).reshape(2, 3), torch.eye(3).repeat(30, 1)],
    ids=["one row", "one point", "fewer rows than dimensions", "three points"],
)
def test_degenerate_rows_have_a_finite_mixture_around_them(rows_ND: Tensor) -> None:
    mixture = fit_mixture(rows_ND, 4, rng())
    assert mixture.factors_KDD.isfinite().all()
    assert (mixture.factors_KDD.diagonal(dim1=1, dim2=2) > 0).all()
    assert mixture.weights_K.sum().item() == pytest.approx(1.0)
    mean_D = (mixture.weights_K[:, None] * mixture.means_KD).sum(dim=0)
    torch.testing.assert_close(mean_D, rows_ND.double().mean(dim=0))


def test_components_are_drawn_in_proportion_to_their_weights_class_by_class() -> None:
    """Class 0 has the two Gaussians, class 1 a single one far away; class 2 has no codes and keeps N(0, I)."""
    left_right = two_gaussians()
    codes_ND = torch.cat([left_right, left_right[:1000] + 50.0]).float()
    labels_N = torch.tensor([0] * 4000 + [1] * 1000)
    prior = MixturePrior(3, 2)
    prior.fit(codes_ND, labels_N, seed=0)
    labels_B = torch.arange(3).repeat_interleave(20_000)
    drawn = prior(torch.randn(60_000, 3, generator=rng(1)), labels_B).reshape(3, 20_000, 2)
    assert (drawn[0, :, 0] < 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    for each, expected_ND in ((0, left_right), (1, codes_ND[4000:])):
        torch.testing.assert_close(drawn[each].mean(dim=0), expected_ND.float().mean(dim=0), atol=0.06, rtol=0)
        torch.testing.assert_close(drawn[each].T.cov(), expected_ND.float().T.cov(), atol=0.15, rtol=0)
    torch.testing.assert_close(drawn[2], torch.randn(60_000, 3, generator=rng(1))[40_000:, :2])


def test_thresholds_are_the_quantiles_of_the_summed_weights() -> None:
    prior = MixturePrior(0, 2)
    prior.fit(torch.cat([torch.zeros(300, 2), torch.full((100, 2), 9.0)]), None, seed=0)
    used = prior.thresholds_QK[0][prior.thresholds_QK[0] < NEVER]
    shares = torch.cat([torch.special.ndtr(used), torch.ones(1)]).diff(prepend=torch.zeros(1))
    first = prior.means_QKD[0, : len(shares), 0] < 5.0
    assert shares[first].sum().item() == pytest.approx(0.75, abs=0.01)


def test_bfloat16_chooses_the_component_that_float32_chooses() -> None:
    values_K = torch.cat([torch.randn(200, generator=rng()), torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-9, -1e-9])])
    thresholds_K = between_bfloat16(values_K)
    torch.testing.assert_close(thresholds_K, values_K, rtol=2**-7, atol=1e-6)
    near = torch.linspace(-4e-3, 4e-3, 401)
    z_KN = torch.cat([thresholds_K[:, None] + near, thresholds_K[:, None] * (1 + near), thresholds_K[:, None]], dim=1)
    expected_KN = z_KN > thresholds_K[:, None]
    assert torch.equal(z_KN.bfloat16().float() > thresholds_K[:, None], expected_KN)
    assert torch.equal(z_KN.bfloat16() > thresholds_K[:, None].bfloat16(), expected_KN)
    assert not torch.equal(z_KN.bfloat16() > values_K[:, None].bfloat16(), z_KN > values_K[:, None])


def test_an_unfitted_prior_is_the_standard_normal() -> None:
    z_BZ = torch.randn(7, 5)
    assert torch.equal(MixturePrior(0, 4)(z_BZ, None), z_BZ[:, :4])
    assert torch.equal(MixturePrior(2, 4)(z_BZ, torch.tensor([0, 1, 0, 1, 1, 1, 0])), z_BZ[:, :4])


def test_one_latent_leaves_none_for_the_code() -> None:
    with pytest.raises(ConfigError, match="latent-dim is 1: model res-vae needs 2 or more"):
        build_generator(ModelConfig(family="res-vae", image_size=28, latent_dim=1))


@pytest.mark.parametrize("num_classes", [0, 2])
def test_a_run_saves_the_prior_of_its_codes(
    tmp_path: Path, make_config: Callable[..., TrainConfig], tiny_data: ImageData, num_classes: int
) -> None:
    config = make_config("res-vae", num_classes=num_classes)
    run_training(config, tiny_data, tmp_path)
    generator = load_generator(tmp_path)[0]
    assert isinstance(generator, PriorGenerator)
    fitted, unfitted = generator.prior.state_dict(), MixturePrior(num_classes, 3).state_dict()
    assert all(not torch.equal(fitted[name], unfitted[name]) for name in ("means_QKD", "factors_QKDD"))
    assert generator.prior.means_QKD.shape[1] == (COMPONENTS if num_classes else 64)


def test_what_is_shown_and_saved_on_the_way_does_not_change_the_run(
    tmp_path: Path, make_config: Callable[..., TrainConfig], tiny_data: ImageData
) -> None:
    config = make_config("res-vae", epochs=4)
    run_training(config, tiny_data, tmp_path / "often")
    seldom = dataclasses.replace(config, preview_every=0, checkpoint_every=4)
    run_training(seldom, tiny_data, tmp_path / "seldom")
    often, seldom_ = (load_generator(tmp_path / name)[0].state_dict() for name in ("often", "seldom"))
    assert all(torch.equal(often[name], seldom_[name]) for name in often)


def test_beta_grows_over_the_epochs_of_the_warm_up(
    tmp_path: Path, make_config: Callable[..., TrainConfig], tiny_data: ImageData
) -> None:
    """5 steps an epoch, 2 epochs: the weights of the KL term are 0, 0.1, …, 0.9, then 1, also after a resume."""
    shares = []

    def record(event: object) -> None:
        if isinstance(event, StepDone):
            losses = event.losses
            shares.append((losses["loss"] - losses["reconstruction"]) / losses["kl"])

    config = make_config("mlp-vae", vae_options=VaeOptions(beta_warmup=2.0), epochs=1)
    for epochs in (1, 3):
        run_training(dataclasses.replace(config, epochs=epochs), tiny_data, tmp_path, on_event=record)
    expected = [min(1.0, step / 10) for step in range(15)]
    np.testing.assert_allclose(shares, expected, atol=1e-3)
