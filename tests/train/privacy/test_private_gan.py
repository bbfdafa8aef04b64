"""A run with a private discriminator: never more steps than were accounted for, and nothing of the data but by them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gen_engine.engine.errors import PlanMismatch
from gen_engine.export.checkpoint import export_checkpoint
from gen_engine.train.config import TrainConfig, resolve_config
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.errors import ConfigError, TrainingInterrupted
from gen_engine.train.options import PrivacyOptions, TrainOptions
from gen_engine.train.privacy import ledger as ledgers
from gen_engine.train.privacy import sampled
from gen_engine.train.privacy.rules import check_private
from gen_engine.train.privacy.sampled import SampledData
from gen_engine.train.runs import loop
from gen_engine.train.runs.checkpoint import load_checkpoint, load_discriminator
from gen_engine.train.runs.events import Notice, StepDone
from gen_engine.train.runs.loop import run_training
from gen_engine.train.runs.run_dir import read_metrics

pytest.importorskip("opacus")

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each look at the data gave."""
    sizes: list[int] = []
    draw = SampledData.draw

    def counted(self: SampledData) -> Any:
        drawn = draw(self)
        sizes.append(len(drawn[0]))
        return drawn

    monkeypatch.setattr(SampledData, "draw", counted)
    return sizes


def spent(run_dir: Path) -> int:
    return ledgers._read(run_dir / "privacy").spent


def stop_after(count: int) -> Callable[[], int | None]:
    requested: Iterator[int] = iter(range(1, 1_000_000))
    return lambda: signal.SIGINT if next(requested) == count else None


@pytest.mark.parametrize("family", ["dcgan", "residual", "style", "mlp-gan"])
def test_every_planned_step_looks_once(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData, draws: list[int], family: str
) -> None:
    run_training(private_gan(family), tiny_data, tmp_path)
    assert len(draws) == spent(tmp_path) == load_checkpoint(tmp_path).record.step == 20
    assert len(set(draws)) > 1


def test_a_stopped_run_loses_nothing(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData, draws: list[int]
) -> None:
    with pytest.raises(TrainingInterrupted):
        run_training(private_gan(), tiny_data, tmp_path, stop=stop_after(7))
    assert spent(tmp_path) == 7
    info = run_training(private_gan(), tiny_data, tmp_path)
    assert (len(draws), info.steps, spent(tmp_path)) == (20, 20, 20)
    assert info.ledger is not None
    assert info.ledger.spent == 20


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import make_image_data
from gen_engine.train.runs.loop import run_training
import json
config = TrainConfig.from_json(json.loads(sys.argv[1]))
images = np.load(sys.argv[3])
data = make_image_data(images, np.arange(len(images)) % 2, ("dark", "bright"), "tiny")
steps = iter(range(1, 1000))
def stop():
    if next(steps) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
run_training(config, data, Path(sys.argv[2]), stop=stop)
"""


def test_a_killed_run_counts_the_steps_it_lost(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData, draws: list[int]
) -> None:
    """SIGKILL at step 8, of which a checkpoint has 5: those that may have been taken are not taken again."""
    config = private_gan("mlp-gan", epochs=24, preview_every=0, checkpoint_every=1)
    np.save(tmp_path / "images.npy", tiny_data.images_NHWC)
    arguments = [json.dumps(config.to_json()), str(tmp_path / "run"), str(tmp_path / "images.npy")]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert load_checkpoint(tmp_path / "run").record.step == 5
    reserved = 5 + ledgers.AHEAD
    assert spent(tmp_path / "run") == reserved
    notices: list[str] = []
    run_training(
        config,
        tiny_data,
        tmp_path / "run",
        on_event=lambda event: notices.append(event.text) if isinstance(event, Notice) else None,
    )
    assert len(draws) == 120 - reserved
    assert spent(tmp_path / "run") == load_checkpoint(tmp_path / "run").record.step == 120
    assert any("50 of 120 steps on the data were spent and lost" in text for text in notices)


def test_an_older_ledger_is_refused(tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData) -> None:
    with pytest.raises(TrainingInterrupted):
        run_training(private_gan(), tiny_data, tmp_path, stop=stop_after(3))
    file = tmp_path / "privacy" / "ledger.json"
    old = file.read_bytes()
    with pytest.raises(TrainingInterrupted):
        run_training(private_gan(), tiny_data, tmp_path, stop=stop_after(3))
    file.write_bytes(old)
    with pytest.raises(PlanMismatch, match=r"has taken 6 steps, and the ledger in .* counts 3: it is an older copy"):
        run_training(private_gan(), tiny_data, tmp_path)


def test_a_checkpoint_of_another_ledger_is_refused(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData
) -> None:
    for name in ("one", "two"):
        with pytest.raises(TrainingInterrupted):
            run_training(private_gan(), tiny_data, tmp_path / name, stop=stop_after(3))
    (tmp_path / "one" / "privacy" / "ledger.json").write_bytes((tmp_path / "two/privacy/ledger.json").read_bytes())
    with pytest.raises(PlanMismatch, match="trained from another ledger"):
        run_training(private_gan(), tiny_data, tmp_path / "one")


def test_more_epochs_than_were_accounted_for_are_refused(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData
) -> None:
    run_training(private_gan(), tiny_data, tmp_path)
    with pytest.raises(PlanMismatch, match="steps: accounted for is 20, this command needs 25"):
        run_training(private_gan(epochs=5), tiny_data, tmp_path)


def test_what_is_logged_does_not_come_from_real_images(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two data sets the first step logs the same figure, which the released update follows and not precedes."""
    inverted = make_image_data(255 - tiny_data.images_NHWC, tiny_data.labels, tiny_data.class_names, "tiny")
    monkeypatch.setattr(sampled, "poisson_sample", lambda images, expected: np.arange(expected))
    first: list[dict[str, float]] = []
    for name, data in (("one", tiny_data), ("two", inverted)):
        events: list[StepDone] = []
        run_training(
            private_gan(epochs=1),
            data,
            tmp_path / name,
            on_event=lambda event, to=events: to.append(event) if isinstance(event, StepDone) else None,
        )
        first.append(dict(events[0].losses))
        assert {event.samples for event in events} == {8}  # not how many were drawn
        assert set(read_metrics(tmp_path / name)[0]) == {
            "epoch",
            "step",
            "g",
            "logit",
            "skipped_steps",
            "samples_per_s",
        }
    assert first[0]["logit"] == first[1]["logit"]
    assert first[0]["g"] != first[1]["g"]


def test_the_loop_holds_no_image(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData, given_to_the_loop: list[ImageData]
) -> None:
    run_training(private_gan(epochs=1), tiny_data, tmp_path)
    (given,) = given_to_the_loop
    assert not given.images_NHWC.any()
    assert given.labels is not None
    assert not given.labels.any()


def test_it_learns_the_classes(tmp_path: Path, private_gan: MakeConfig) -> None:
    """Bright and dark images, at an ε at which the noise on 64 gradients leaves that much."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = (rng.integers(0, 40, (400, 28, 28, 1)) + 200 * labels[:, None, None, None]).astype(np.uint8)
    data = make_image_data(images, labels.astype(np.int64), ("dark", "bright"), "two")
    options = PrivacyOptions(dp_epsilon=100.0, dp_mechanism="gan", dp_delta=1e-3)
    config = private_gan(
        privacy_options=options,
        epochs=20,
        batch=40,
        lr=0.01,
        lr_discriminator=0.003,
        ema_decay=0.9,
        preview_every=0,
    )
    run_training(config, data, tmp_path)
    generator, _ = loop.load_generator(tmp_path)
    with torch.no_grad():
        made = generator(torch.randn(40, 4), torch.arange(40) % 2).mean(dim=(1, 2, 3))
    assert made[0::2].mean() < -0.2
    assert made[1::2].mean() > 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r1": 1.0}, "--r1 and --dp-mechanism gan cannot go together"),
        ({"r2": 1.0}, "--r2 and --dp-mechanism gan cannot go together"),
        ({"gradient_penalty": 1.0}, "--gradient-penalty and --dp-mechanism gan cannot go together"),
        ({"diffaugment": "cutout", "diffaugment_target": 0.6}, "--diffaugment-target and --dp-mechanism gan"),
        ({"diffaugment": "cutout"}, "--diffaugment and --dp-mechanism gan cannot go together"),
        ({"watch": True}, "--watch and --dp-epsilon cannot go together"),
        ({"accumulate": 2}, "--accumulate has no effect with --dp-mechanism gan"),
        ({"dp_features": 100}, "--dp-features has no effect with --dp-mechanism gan"),
        ({"dp_mechanism": "mean-embedding", "dp_clip": 2.0}, "--dp-clip has no effect"),
        ({"dp_epsilon": 0.0}, "--dp-mechanism has no effect without --dp-epsilon"),
    ],
)
def test_options_that_void_the_guarantee_or_do_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_private(TrainOptions(**{"data": "digits", "dp_epsilon": 1.0, "dp_mechanism": "gan", **changes}))


@pytest.mark.parametrize("name", ["watch", "hold_out", "search", "augment", "stream"])
def test_whatever_looks_at_the_data_is_refused_by_name(name: str) -> None:
    options = TrainOptions(data="digits", dp_epsilon=1.0, dp_mechanism="gan")
    object.__setattr__(options, name, 1)
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} and --dp-epsilon cannot go together"):
        check_private(options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "mlp-vae"}, "model mlp-vae and dp-mechanism gan cannot go together"),
        ({"model": "vae-gan"}, "model vae-gan and dp-mechanism gan cannot go together"),
        ({"loss": "relativistic"}, "loss 'relativistic' and dp-mechanism gan cannot go together"),
        ({"loss": "wasserstein"}, "loss 'wasserstein' and dp-mechanism gan"),
    ],
)
def test_models_and_losses_without_gradients_of_single_images_are_refused(
    tiny_data: ImageData, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_config(TrainOptions(data="digits", dp_epsilon=1.0, dp_mechanism="gan", **changes), tiny_data)


def test_spectral_normalisation_is_left_out_by_itself(tiny_data: ImageData, private_gan: MakeConfig) -> None:
    config = resolve_config(TrainOptions(data="digits", dp_epsilon=1.0, dp_mechanism="gan", model="style"), tiny_data)
    assert (config.model.spectral, config.precision, config.loss) == (False, "fp32", "non-saturating")
    with pytest.raises(ConfigError, match="spectral and dp-mechanism gan cannot go together"):
        replace(config, model=replace(config.model, spectral=True))
    with pytest.raises(ConfigError, match="precision bf16 and dp-mechanism gan cannot go together"):
        private_gan(precision="bf16")


@pytest.mark.parametrize(("name", "value"), [("dp_clip", 0.0), ("dp_clip", float("nan")), ("dp_mechanism", "dp-sgd")])
def test_a_privacy_option_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name.replace("_", "-")):
        TrainOptions(data="digits", **{name: value})


def test_the_card_says_what_holds_and_nothing_of_the_data(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData
) -> None:
    run_training(private_gan("mlp-gan", epochs=1), tiny_data, tmp_path / "run")
    bundle = export_checkpoint(tmp_path / "run", tmp_path / "p.gen")
    privacy = bundle.training["privacy"]
    ledger = ledgers._read(tmp_path / "run" / "privacy")
    assert (privacy["epsilon"], privacy["delta"], privacy["clipping_norm"]) == (10.0, 1e-3, 1.0)
    assert privacy["noise_multiplier"] == ledger.noise_multiplier
    assert (privacy["sampling_rate"], privacy["steps"], privacy["steps_spent"]) == (0.2, 5, 5)
    assert "PRV" in privacy["accountant"]
    assert "added or removed" in privacy["unit"]
    assert any("choice of options" in one for one in privacy["not_covered"])
    assert tiny_data.digest not in json.dumps(dict(bundle.training))


def test_the_discriminator_can_be_exported(tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData) -> None:
    """Its weights are what the noise is on: they are as private as the generator."""
    info = run_training(private_gan(epochs=1), tiny_data, tmp_path)
    assert load_discriminator(info.path)(torch.zeros(2, 1, 28, 28), torch.tensor([0, 1])).shape == (2,)
