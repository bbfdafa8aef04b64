"""What one image can change in a step: its draw, its clipped gradient, and the noise on the sum."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import ConfigError
from gen_engine.train.models import build_auxiliary, build_generator
from gen_engine.train.objectives.private_gan import PrivateGanStep
from gen_engine.train.privacy import dp_sgd, sampled
from gen_engine.train.privacy.dp_sgd import ClippedGradients
from gen_engine.train.privacy.ledger import open_ledger
from gen_engine.train.privacy.sampled import SampledData, poisson_sample

pytest.importorskip("opacus")

MakeConfig = Callable[..., TrainConfig]
CLIP, IMAGES = 0.5, 6


def no_noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dp_sgd, "secret_normal", no_noise)


def gradients_of(network: nn.Module, *, noise: float = 0.0, expected: int = 1) -> ClippedGradients:
    optimizer = torch.optim.Adam(network.parameters())
    return ClippedGradients(network, optimizer, clip=CLIP, noise_multiplier=noise, expected=expected)


def released(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def losses_of(network: nn.Module, images_BCHW: Tensor, labels_B: Tensor) -> Tensor:
    """Losses of such different sizes that some gradients are clipped and some are not."""
    weights_B = 10.0 ** torch.arange(-4, len(images_BCHW) - 4)
    logits_B: Tensor = network(images_BCHW, labels_B)
    return weights_B * functional.softplus(-logits_B)


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(IMAGES, 1, 28, 28) * 2 - 1, torch.arange(IMAGES) % 2


@pytest.mark.parametrize("family", ["dcgan", "residual", "mlp-gan"])
@pytest.mark.usefixtures("quiet")
def test_each_image_has_its_own_clipped_gradient(private_gan: MakeConfig, family: str) -> None:
    """Against autograd, one image at a time, over all weights together, the labels' embedding included."""
    torch.manual_seed(0)
    network = build_auxiliary(private_gan(family).model)
    images_BCHW, labels_B = batch()
    parameters, expected, norms = list(network.parameters()), torch.zeros(()), []
    for at in range(IMAGES):
        loss = losses_of(network, images_BCHW, labels_B)[at]
        alone = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
        norms.append(alone.norm().item())
        expected = expected + alone * min(1.0, CLIP / norms[-1])
    assert min(norms) < CLIP < max(norms)
    gradients = gradients_of(network)
    gradients.clear()
    gradients.add(losses_of(network, images_BCHW, labels_B).mean())
    gradients.release()
    torch.testing.assert_close(released(network), expected, rtol=1e-3, atol=1e-5)


def largest_change(network: nn.Module, gradients: ClippedGradients) -> float:
    """How far the sum is from that without one of the images, whichever changes it most."""
    images_BCHW, labels_B = batch()
    sums = []
    for rows in [range(IMAGES), *([*range(at), *range(at + 1, IMAGES)] for at in range(IMAGES))]:
        gradients.clear()
        for at in rows:
            logits_B = network(images_BCHW[at : at + 1], labels_B[at : at + 1])
            gradients.add(10.0**at * functional.softplus(-logits_B).mean())
        gradients.release()
        sums.append(released(network))
    return max((one - sums[0]).norm().item() for one in sums[1:])


@pytest.mark.usefixtures("quiet")
def test_an_image_more_changes_the_sum_by_no_more_than_the_clipping_norm(private_gan: MakeConfig) -> None:
    network = build_auxiliary(private_gan().model)
    change = largest_change(network, gradients_of(network))
    assert 0.9 * CLIP < change <= CLIP


@pytest.mark.usefixtures("quiet")
def test_without_clipping_it_would(private_gan: MakeConfig) -> None:
    """The test before sees a leak: of gradients as they are, one image changes the sum by much more."""
    network = build_auxiliary(private_gan().model)
    gradients = gradients_of(network)
    gradients._clipping.max_grad_norm = 1e9
    assert largest_change(network, gradients) > 10 * CLIP


@pytest.mark.parametrize("family", ["dcgan", "mlp-gan"])
@pytest.mark.parametrize("conditioning", ["projection", "both"])
@pytest.mark.usefixtures("quiet")
def test_so_it_is_in_a_whole_step(
    tmp_path: Path,
    private_gan: MakeConfig,
    tiny_data: ImageData,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    conditioning: str,
) -> None:
    """The gradient that the discriminator is updated with, of a sample with and without one image."""
    config, found = private_gan(family, conditioning=conditioning, loss="least-squares"), []
    source = SampledData.of(config, tiny_data, open_ledger(tmp_path, config, tiny_data, resume=True, trained=False))
    for drawn in ([3, 8, 11], [3, 11]):
        monkeypatch.setattr(sampled, "poisson_sample", lambda *_, drawn=drawn: np.array(drawn))
        torch.manual_seed(0)
        discriminator = build_auxiliary(config.model)
        for parameter in discriminator.parameters():
            parameter.data *= 8.0  # large gradients
        step = PrivateGanStep(config, build_generator(config.model), discriminator, source)
        step.variant = False
        step.on_device(torch.zeros(8, 1, 28, 28), None, *step.draw(8, torch.Generator().manual_seed(0)))
        found.append(released(discriminator) * config.batch)
    clip = config.privacy_options.dp_clip
    assert 0.9 * clip < (found[0] - found[1]).norm().item() <= clip


@pytest.mark.usefixtures("quiet")
def test_a_gradient_that_is_no_number_is_left_out(private_gan: MakeConfig) -> None:
    network = build_auxiliary(private_gan().model)
    images_BCHW, labels_B = batch()
    gradients, sums = gradients_of(network), []
    for weight in (float("nan"), float("inf"), 0.0):
        weights_B = torch.ones(IMAGES)
        weights_B[2] = weight
        gradients.clear()
        gradients.add((weights_B * functional.softplus(-network(images_BCHW, labels_B))).mean())
        gradients.release()
        sums.append(released(network))
    assert sums[0].isfinite().all()
    torch.testing.assert_close(sums[0], sums[2])
    torch.testing.assert_close(sums[1], sums[2])


def test_the_noise_has_its_size_even_without_an_image(private_gan: MakeConfig) -> None:
    network = build_auxiliary(private_gan(width=16, hidden=64).model)
    gradients = gradients_of(network, noise=3.0, expected=10)
    gradients.clear()
    gradients.add(0.0 * network(*batch()).mean())
    gradients.release()
    assert released(network).std().item() == pytest.approx(3.0 * CLIP / 10, rel=0.02)


def test_nothing_of_single_images_remains(private_gan: MakeConfig) -> None:
    network = build_auxiliary(private_gan().model)
    gradients = gradients_of(network, noise=1.0)
    gradients.clear()
    gradients.add(losses_of(network, *batch()).mean())
    gradients.release()
    for parameter in network.parameters():
        assert parameter.grad_sample is None
        assert parameter.summed_grad is None


def test_a_layer_that_mixes_images_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 26 * 26, 1))
    with pytest.raises(ConfigError, match="BatchNorm"):
        gradients_of(network)


def test_each_image_is_drawn_at_the_rate_and_by_itself() -> None:
    drawn = np.zeros((4000, 50))
    for row in drawn:
        row[poisson_sample(50, 10)] = 1.0
    assert drawn.mean() == pytest.approx(0.2, abs=0.004)
    assert np.abs(drawn.mean(axis=0) - 0.2).max() < 0.03
    sizes = drawn.sum(axis=1)
    assert sizes.var() == pytest.approx(50 * 0.2 * 0.8, rel=0.1)  # of a binomial; batches of a fixed size have none
    correlation = np.corrcoef(drawn.T) - np.eye(50)
    assert np.abs(correlation).max() < 0.09


def test_no_seed_repeats_a_draw() -> None:
    drawn = []
    for _ in range(2):
        np.random.seed(0)
        torch.manual_seed(0)
        drawn.append(poisson_sample(1000, 500))
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_a_rate_of_one_draws_every_image(monkeypatch: pytest.MonkeyPatch, word: int) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: word.to_bytes(8, "little") * (count // 8))
    assert poisson_sample(7, 7).tolist() == list(range(7))
    assert poisson_sample(7, 6).tolist() == (list(range(7)) if word == 0 else [])
