"""A private run: resumes to the same bytes, sees no image, refuses what would void ε, and says so on the card."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gen_engine.engine.errors import PlanMismatch
from gen_engine.export.checkpoint import export_checkpoint
from gen_engine.train.config import PRIVATE_LOSS, TrainConfig
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.errors import ConfigError, TrainingInterrupted
from gen_engine.train.options import PrivacyOptions, TrainOptions
from gen_engine.train.privacy import release
from gen_engine.train.privacy.rules import check_private
from gen_engine.train.runs import loop
from gen_engine.train.runs.checkpoint import FILES, newest_checkpoint
from gen_engine.train.runs.loop import run_training

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def private(make_config: MakeConfig) -> MakeConfig:
    """Return a small private configuration of a family."""

    def make(family: str = "dcgan", **changes: object) -> TrainConfig:
        options = PrivacyOptions(dp_epsilon=10.0, dp_features=50)
        return make_config(family, **{"privacy_options": options, "loss": PRIVATE_LOSS, "epochs": 4, **changes})

    return make


def weights(run_dir: Path) -> dict[str, bytes]:
    path = newest_checkpoint(run_dir)
    return {name: (path / f"{name}.safetensors").read_bytes() for name in FILES}


def stop_after(count: int) -> Callable[[], int | None]:
    requested: Iterator[int] = iter(range(1, 1_000_000))
    return lambda: signal.SIGINT if next(requested) == count else None


def copy_of_means(source: Path, target: Path) -> None:
    """The same measurement in another directory: the noise of a new one would be other noise."""
    (target / "privacy").mkdir(parents=True)
    for file in (source / "privacy").iterdir():
        (target / "privacy" / file.name).write_bytes(file.read_bytes())


@pytest.mark.parametrize("family", ["dcgan", "mlp-gan", "mlp-vae"])
def test_resume_is_bit_identical_after_a_stop(
    tmp_path: Path, private: MakeConfig, tiny_data: ImageData, family: str
) -> None:
    config = private(family)
    run_training(config, tiny_data, tmp_path / "straight")
    copy_of_means(tmp_path / "straight", tmp_path / "stopped")
    with pytest.raises(TrainingInterrupted):
        run_training(config, tiny_data, tmp_path / "stopped", stop=stop_after(7))
    run_training(config, tiny_data, tmp_path / "stopped")
    assert weights(tmp_path / "straight") == weights(tmp_path / "stopped")


def test_starting_over_trains_on_the_same_means(tmp_path: Path, private: MakeConfig, tiny_data: ImageData) -> None:
    run_training(private(), tiny_data, tmp_path)
    before, means = weights(tmp_path), (tmp_path / "privacy" / "means.safetensors").read_bytes()
    run_training(private(seed=1), tiny_data, tmp_path, resume=False)
    assert weights(tmp_path) != before
    run_training(private(), tiny_data, tmp_path, resume=False)
    assert weights(tmp_path) == before
    assert (tmp_path / "privacy" / "means.safetensors").read_bytes() == means


def test_a_run_is_a_function_of_the_means_alone(
    tmp_path: Path, private: MakeConfig, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the means of one data set in place, training on another gives the same bytes: nothing else is looked at."""
    run_training(private(), tiny_data, tmp_path / "one")
    opened = loop.open_source(tmp_path / "one", private(), tiny_data, resume=True, trained=False)
    monkeypatch.setattr(loop, "open_source", lambda *args, **named: opened)
    other = make_image_data(255 - tiny_data.images_NHWC, tiny_data.labels, tiny_data.class_names, "tiny")
    run_training(private(), other, tmp_path / "two")
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    previews = [(tmp_path / run / "previews" / "epoch-0004.png").read_bytes() for run in ("one", "two")]
    assert previews[0] == previews[1]


def test_the_loop_holds_no_image(
    tmp_path: Path, private: MakeConfig, tiny_data: ImageData, given_to_the_loop: list[ImageData]
) -> None:
    """Whatever is added to the loop later can look at blank images only."""
    run_training(private(epochs=1), tiny_data, tmp_path)
    (given,) = given_to_the_loop
    assert not given.images_NHWC.any()
    assert given.labels is not None
    assert not given.labels.any()


def test_it_learns_the_classes(tmp_path: Path, private: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bright and dark images, at an ε at which the noise of 400 images leaves that much; the same noise every time."""
    monkeypatch.setattr(release, "secret_normal", np.random.default_rng(1).standard_normal)
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = (rng.integers(0, 40, (400, 28, 28, 1)) + 200 * labels[:, None, None, None]).astype(np.uint8)
    data = make_image_data(images, labels.astype(np.int64), ("dark", "bright"), "two")
    options = PrivacyOptions(dp_epsilon=50.0, dp_features=200)
    config = private(privacy_options=options, epochs=25, batch=40, lr=0.01, ema_decay=0.9, preview_every=0)
    run_training(config, data, tmp_path)
    generator, _ = loop.load_generator(tmp_path)
    with torch.no_grad():
        made = generator(torch.randn(40, 4), torch.arange(40) % 2).mean(dim=(1, 2, 3))
    assert made[0::2].max() < -0.1
    assert made[1::2].min() > 0.1


def test_a_resume_with_another_epsilon_is_refused(tmp_path: Path, private: MakeConfig, tiny_data: ImageData) -> None:
    config = private()
    run_training(config, tiny_data, tmp_path)
    other = replace(config, privacy_options=replace(config.privacy_options, dp_epsilon=1.0))
    for resume in (True, False):
        with pytest.raises(PlanMismatch, match=r"epsilon: measured were 10\.0, this command needs 1\.0"):
            run_training(other, tiny_data, tmp_path, resume=resume)


def test_a_run_with_no_privacy_does_not_become_private(
    tmp_path: Path, private: MakeConfig, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    run_training(make_config(), tiny_data, tmp_path)
    with pytest.raises(PlanMismatch, match="looked at once more"):
        run_training(private(), tiny_data, tmp_path)
    assert not (tmp_path / "privacy").exists()


def test_a_private_run_does_not_lose_its_privacy(
    tmp_path: Path, private: MakeConfig, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    run_training(private(), tiny_data, tmp_path)
    with pytest.raises(PlanMismatch, match=r"dp-epsilon: the run has 10\.0, this command requests 0\.0"):
        run_training(make_config(epochs=4), tiny_data, tmp_path)


def test_a_checkpoint_of_other_means_is_refused(tmp_path: Path, private: MakeConfig, tiny_data: ImageData) -> None:
    for name in ("one", "two"):
        run_training(private(), tiny_data, tmp_path / name)
    for file in (tmp_path / "two" / "privacy").iterdir():
        (tmp_path / "one" / "privacy" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(PlanMismatch, match="trained on other noisy means"):
        run_training(private(epochs=5), tiny_data, tmp_path / "one")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge"}, "--loss hinge and --dp-epsilon cannot go together"),
        ({"diffaugment": "cutout"}, "--diffaugment has no effect with --dp-epsilon"),
        ({"r1": 1.0}, "--r1 has no effect"),
        ({"lr_discriminator": 1e-3}, "--lr-discriminator has no effect"),
        ({"accumulate": 2}, "--accumulate has no effect"),
    ],
)
def test_options_that_look_at_images_or_do_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_private(TrainOptions(data="digits", dp_epsilon=1.0, **changes))


@pytest.mark.parametrize("name", ["watch", "hold_out", "search", "augment", "stream"])
def test_whatever_looks_at_the_data_is_refused_by_name(name: str) -> None:
    options = TrainOptions(data="digits", dp_epsilon=1.0)
    object.__setattr__(options, name, 1)
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} and --dp-epsilon cannot go together"):
        check_private(options)


@pytest.mark.parametrize(
    "changes",
    [
        *({"dp_epsilon": value} for value in (-1.0, 101.0, 1e-9, float("nan"))),
        *({"dp_delta": value} for value in (0.0, 1.0)),
        {"dp_features": 0},
    ],
)
def test_a_privacy_option_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes)).replace("_", "-")):
        TrainOptions(data="digits", **changes)


def test_delta_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="--dp-delta has no effect without --dp-epsilon"):
        check_private(TrainOptions(data="digits", dp_delta=1e-6))


def test_a_batch_has_two_images_of_each_class(private: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="at least twice the 2 classes"):
        private(batch=3)


def test_the_card_says_what_holds_and_nothing_of_the_data(
    tmp_path: Path, private: MakeConfig, tiny_data: ImageData
) -> None:
    run_training(private("mlp-gan", epochs=1), tiny_data, tmp_path / "run")
    bundle = export_checkpoint(tmp_path / "run", tmp_path / "p.gen")
    privacy = bundle.training["privacy"]
    assert (privacy["epsilon"], privacy["delta"]) == (10.0, 1e-5)
    assert privacy["noise_multiplier"] == pytest.approx(0.4999, abs=1e-3)
    assert "Balle & Wang" in privacy["accountant"]
    assert "replaced" in privacy["unit"]
    assert any("choice of options" in one for one in privacy["not_covered"])
    assert "gan" not in bundle.training
    assert tiny_data.digest not in json.dumps(dict(bundle.training))
