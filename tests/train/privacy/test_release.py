"""What is measured of the data: its sensitivity, its noise, its one time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_engine.engine.errors import OutputError, PlanMismatch
from gen_engine.train.config import PRIVATE_LOSS, TrainConfig
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.errors import CheckpointError, ConfigError
from gen_engine.train.options import PrivacyOptions
from gen_engine.train.privacy.features import COUNT_FEATURE, draw_features
from gen_engine.train.privacy.mechanism import gaussian_noise
from gen_engine.train.privacy.release import Release, bounded, class_means, noisy_means, open_means, withheld
from gen_engine.train.privacy.source import open_source

MakeConfig = Callable[..., TrainConfig]
FEATURES = 60


@pytest.fixture
def private(make_config: MakeConfig) -> TrainConfig:
    """A small private configuration."""
    options = PrivacyOptions(dp_epsilon=10.0, dp_features=FEATURES)
    return make_config(privacy_options=options, loss=PRIVATE_LOSS)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1e4), st.sampled_from([(1, 28, 28), (3, 32, 32)]))
def test_features_have_a_norm_of_at_most_one_whatever_the_image(
    seed: int, spread: float, shape: tuple[int, int, int]
) -> None:
    images_BCHW = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed)) * spread
    rows_BE = bounded(draw_features(shape, FEATURES)(images_BCHW).double())
    norms_B = rows_BE.norm(dim=1)
    assert (norms_B <= 1.0 + 1e-12).all()
    assert (norms_B > 0.999).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 39), st.integers(0, 1))
def test_replacing_one_image_changes_the_means_by_no_more_than_the_sensitivity(seed: int, row: int, label: int) -> None:
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (40, 28, 28, 1), np.uint8), np.arange(40) % 2
    images[row] = rng.choice([0, 255], (28, 28, 1))
    data = make_image_data(images, labels, ("a", "b"), "one")
    other, relabelled = 255 - images, labels.copy()
    relabelled[row] = label
    neighbour = replace(data, images_NHWC=np.where((np.arange(40) == row)[:, None, None, None], other, images))
    neighbour = replace(neighbour, labels=relabelled)
    release = a_release(data)
    change = (class_means(release, data) - class_means(release, neighbour)).norm()
    assert 0 < change <= 2.0 / 40


def a_release(data: ImageData, **changes: object) -> Release:
    base = Release(
        epsilon=10.0,
        delta=1e-5,
        features=FEATURES,
        kinds=1,
        channels=1,
        image_size=28,
        classes=2,
        images=len(data.images_NHWC),
        data=data.digest,
    )
    return replace(base, **changes)


def test_the_last_feature_counts_the_classes(tiny_data: ImageData) -> None:
    for array in (tiny_data.images_NHWC, tiny_data.labels):  # as a reader may return them
        assert array is not None
        array.setflags(write=False)
    counts = class_means(a_release(tiny_data), tiny_data)[:, -1] / COUNT_FEATURE
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_noise_of_the_calibrated_size_is_added_to_every_mean(tiny_data: ImageData, epsilon: float) -> None:
    release = a_release(tiny_data, epsilon=epsilon, features=3000)
    noise = noisy_means(release, tiny_data) - class_means(release, tiny_data)
    expected = gaussian_noise(epsilon, 1e-5) * 2.0 / 40
    assert noise.std().item() == pytest.approx(expected, rel=0.04)
    assert noise[0].std().item() == pytest.approx(expected, rel=0.06)
    assert abs(noise.mean().item()) < 0.05 * expected


def test_the_frequencies_do_not_depend_on_the_run() -> None:
    torch.manual_seed(1)
    first = draw_features((1, 28, 28), 5).frequencies_PF
    torch.manual_seed(2)
    np.testing.assert_array_equal(first, draw_features((1, 28, 28), 5).frequencies_PF)


def test_means_are_measured_once(tmp_path: Path, private: TrainConfig, tiny_data: ImageData) -> None:
    first = open_means(tmp_path, private, tiny_data, trained=False)
    again = open_means(tmp_path, replace(private, seed=5, lr=0.1), tiny_data, trained=True)
    assert torch.equal(first.means_KE, again.means_KE)
    elsewhere = open_means(make(tmp_path / "other"), private, tiny_data, trained=False)
    assert not torch.equal(first.means_KE, elsewhere.means_KE)


def make(path: Path) -> Path:
    path.mkdir()
    return path


def test_an_attempt_that_was_killed_leaves_nothing(tmp_path: Path, private: TrainConfig, tiny_data: ImageData) -> None:
    (tmp_path / ".tmp-privacy").mkdir()
    (tmp_path / ".tmp-privacy" / "means.safetensors").write_bytes(b"half")
    open_means(tmp_path, private, tiny_data, trained=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["privacy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dp_epsilon": 1.0}, "epsilon: measured were 10.0, this command needs 1.0"),
        ({"dp_delta": 1e-6}, "delta: measured were 1e-05, this command needs 1e-06"),
        ({"dp_features": 61}, "features: measured were 60, this command needs 61"),
    ],
)
def test_a_second_look_is_refused_by_name(
    tmp_path: Path, private: TrainConfig, tiny_data: ImageData, changes: dict[str, float], message: str
) -> None:
    open_means(tmp_path, private, tiny_data, trained=False)
    other = replace(private, privacy_options=replace(private.privacy_options, **changes))
    with pytest.raises(PlanMismatch, match=message) as caught:
        open_means(tmp_path, other, tiny_data, trained=False)
    assert "add up the ε of both" in str(caught.value)


def test_other_data_are_refused(tmp_path: Path, private: TrainConfig, tiny_data: ImageData) -> None:
    open_means(tmp_path, private, tiny_data, trained=False)
    changed = make_image_data(255 - tiny_data.images_NHWC, tiny_data.labels, tiny_data.class_names, "other")
    with pytest.raises(PlanMismatch, match="data: measured were"):
        open_means(tmp_path, private, changed, trained=False)


def test_a_checkpoint_without_its_means_is_refused(tmp_path: Path, private: TrainConfig, tiny_data: ImageData) -> None:
    with pytest.raises(PlanMismatch, match="looked at once more"):
        open_means(tmp_path, private, tiny_data, trained=True)


def test_delta_has_to_be_less_than_one_image(tmp_path: Path, private: TrainConfig, tiny_data: ImageData) -> None:
    options = replace(private.privacy_options, dp_delta=0.025)
    with pytest.raises(ConfigError, match=r"dp-delta is 0\.025: with 40 images it must be less than 0\.025"):
        open_source(tmp_path, replace(private, privacy_options=options), tiny_data, resume=True, trained=False)


@pytest.mark.parametrize("name", ["release.json", "means.safetensors"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-2] + b"xx", lambda data: b""])
def test_damaged_means_are_refused(
    tmp_path: Path, private: TrainConfig, tiny_data: ImageData, name: str, damage: Callable[[bytes], bytes]
) -> None:
    open_means(tmp_path, private, tiny_data, trained=False)
    file = tmp_path / "privacy" / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match="cannot be used"):
        open_means(tmp_path, private, tiny_data, trained=False)


def test_what_training_gets_holds_no_image(tiny_data: ImageData) -> None:
    blank = withheld(tiny_data)
    assert blank.images_NHWC.shape == tiny_data.images_NHWC.shape
    assert not blank.images_NHWC.any()
    assert blank.labels is not None
    assert not blank.labels.any()
    assert tiny_data.images_NHWC.any()


def test_a_link_in_place_of_the_means_is_refused(tmp_path: Path, private: TrainConfig, tiny_data: ImageData) -> None:
    from gen_engine.train.runs.loop import run_training

    (tmp_path / "privacy").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="symbolic link"):
        run_training(private, tiny_data, tmp_path)
