"""The distance that a private generator's samples have from the noisy means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from gen_engine.train.config import PRIVATE_LOSS, TrainConfig
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.models import build_generator
from gen_engine.train.objectives.mean_embedding import MeanEmbeddingStep, targets
from gen_engine.train.options import PrivacyOptions
from gen_engine.train.privacy.features import draw_features
from gen_engine.train.privacy.release import Means, Release, class_means

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def skewed() -> ImageData:
    """400 images of noise around two levels, a quarter of them bright."""
    rng = np.random.default_rng(0)
    labels = (np.arange(400) % 4 == 0).astype(np.int64)
    images = rng.integers(0, 100, (400, 28, 28, 1)) + 150 * labels[:, None, None, None]
    return make_image_data(images.astype(np.uint8), labels, ("dark", "bright"), "skewed")


def exact(data: ImageData, config: TrainConfig) -> Means:
    """The means without noise."""
    release = Release.of(config, data)
    return Means(release=release, means_KE=class_means(release, data).float(), digest="00" * 32)


@pytest.fixture
def config(make_config: MakeConfig) -> TrainConfig:
    """A small private configuration."""
    return make_config("mlp-gan", privacy_options=PrivacyOptions(dp_epsilon=10.0, dp_features=300), loss=PRIVATE_LOSS)


def test_targets_are_means_of_a_class_and_its_share(skewed: ImageData, config: TrainConfig) -> None:
    targets_KE, shares_K = targets(exact(skewed, config))
    torch.testing.assert_close(shares_K, torch.tensor([0.75, 0.25]))
    bright = torch.from_numpy(skewed.images_NHWC[skewed.labels == 1]).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(targets_KE[1], draw_features((1, 28, 28), 300)(bright).mean(dim=0), atol=1e-5, rtol=0)


def test_a_class_that_noise_hides_has_no_negative_share(skewed: ImageData, config: TrainConfig) -> None:
    means = exact(skewed, config)
    means.means_KE[1] = -1e-4
    _, shares_K = targets(means)
    assert (shares_K > 0).all()
    assert shares_K.sum() == pytest.approx(1.0)


def test_the_distance_of_real_images_is_zero_on_average(skewed: ImageData, config: TrainConfig) -> None:
    """Whatever the batch: the estimate is unbiased, where the biased one would be near 0.5 for batches of 4."""
    step = MeanEmbeddingStep(config, build_generator(config.model), exact(skewed, config))
    rows = {name: np.flatnonzero(skewed.labels == name) for name in (0, 1)}
    rng, found = np.random.default_rng(1), []
    for _ in range(300):
        chosen = np.stack([rng.choice(rows[0], 2, replace=False), rng.choice(rows[1], 2, replace=False)], 1).ravel()
        images = torch.from_numpy(skewed.images_NHWC[chosen]).permute(0, 3, 1, 2).float() / 127.5 - 1
        found.append(step._distance(step.features(images), torch.arange(4) % 2).item())
    assert np.mean(found) == pytest.approx(0.0, abs=4 * np.std(found) / 300**0.5)
    assert np.std(found) < 0.2


def test_the_distance_of_other_images_is_not(skewed: ImageData, config: TrainConfig) -> None:
    step = MeanEmbeddingStep(config, build_generator(config.model), exact(skewed, config))
    noise_BCHW = torch.rand(64, 1, 28, 28) * 2 - 1
    assert step._distance(step.features(noise_BCHW), torch.arange(64) % 2).item() > 0.1


def test_a_step_looks_at_neither_images_nor_labels(skewed: ImageData, config: TrainConfig) -> None:
    weights = []
    for fill, label in ((0.0, 0), (0.7, 1)):
        torch.manual_seed(0)
        generator = build_generator(config.model)
        step = MeanEmbeddingStep(config, generator, exact(skewed, config))
        draws = step.draw(8, torch.Generator().manual_seed(0))
        images_BCHW, labels_B = torch.full((8, 1, 28, 28), fill), torch.full((8,), label)
        step.on_device(images_BCHW, labels_B, *draws)
        weights.append(torch.cat([p.detach().flatten() for p in generator.parameters()]))
    assert torch.equal(*weights)


def test_an_unconditional_run_has_one_class(skewed: ImageData, config: TrainConfig) -> None:
    free = replace(config, model=replace(config.model, num_classes=0))
    means = exact(skewed, free)
    assert means.means_KE.shape == (1, 601)
    step = MeanEmbeddingStep(free, build_generator(free.model), means)
    draws = step.draw(8, torch.Generator().manual_seed(0))
    assert step.losses(step.on_device(torch.zeros(8, 1, 28, 28), None, *draws).tolist())["mmd"] > 0
