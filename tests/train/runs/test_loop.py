"""The loop: resumes to the same bytes, guards against NaN, stops and saves, refuses what does not fit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gen_engine.engine.errors import OutputError, OutputLocked, PlanMismatch
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.errors import (
    ConfigError,
    DataError,
    TrainingDiverged,
    TrainingInterrupted,
)
from gen_engine.train.models import MODELS
from gen_engine.train.objectives import gan
from gen_engine.train.objectives.step import LaunchedStep
from gen_engine.train.runs.checkpoint import FILES, has_checkpoint, newest_checkpoint
from gen_engine.train.runs.events import EpochDone, Event, Notice, RunStarted, Saved, StepDone, StepSkipped
from gen_engine.train.runs.loop import Trainer, data_order
from gen_engine.train.runs.loop import run_training as train
from gen_engine.train.runs.run_dir import locked
from gen_engine.train.runs.state import RunState, moving_average

MakeConfig = Callable[..., TrainConfig]


def weights(run_dir: Path) -> dict[str, bytes]:
    path = newest_checkpoint(run_dir)
    return {name: (path / f"{name}.safetensors").read_bytes() for name in FILES}


def stop_after(count: int, signum: int = signal.SIGINT) -> Callable[[], int | None]:
    """A stop that fires once, after this many steps."""
    requested = iter(range(1, 1_000_000))
    return lambda: signum if next(requested) == count else None


@pytest.mark.parametrize("family", MODELS)
def test_resume_is_bit_identical_after_whole_epochs(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, family: str
) -> None:
    config = make_config(family, epochs=4)
    train(config, tiny_data, tmp_path / "straight")
    train(replace(config, epochs=2), tiny_data, tmp_path / "halves")
    assert weights(tmp_path / "straight") != weights(tmp_path / "halves")
    train(config, tiny_data, tmp_path / "halves")
    assert weights(tmp_path / "straight") == weights(tmp_path / "halves")


@pytest.mark.parametrize("family", ["dcgan", "mlp-vae"])
@pytest.mark.parametrize("step", [1, 7, 10])
def test_resume_is_bit_identical_after_a_stop_at_any_step(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, family: str, step: int
) -> None:
    """Step 7 lies inside the second epoch of five steps, step 10 on its last step."""
    config = make_config(family, epochs=4, num_classes=0)
    train(config, tiny_data, tmp_path / "straight")
    with pytest.raises(TrainingInterrupted, match=f"after step {step}"):
        train(config, tiny_data, tmp_path / "stopped", stop=stop_after(step))
    train(config, tiny_data, tmp_path / "stopped")
    assert weights(tmp_path / "straight") == weights(tmp_path / "stopped")
    assert means(tmp_path / "straight") == means(tmp_path / "stopped")


def means(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "samples_per_s"} for line in lines]


def test_a_killed_run_takes_its_unsaved_epochs_again(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    config = make_config(epochs=4, checkpoint_every=2)
    train(config, tiny_data, tmp_path / "straight")

    class Killed(BaseException):
        pass

    def die(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 17:
            raise Killed

    with pytest.raises(Killed):
        train(config, tiny_data, tmp_path / "killed", on_event=die)
    assert len(means(tmp_path / "killed")) == 3
    train(config, tiny_data, tmp_path / "killed")
    assert weights(tmp_path / "straight") == weights(tmp_path / "killed")
    assert means(tmp_path / "straight") == means(tmp_path / "killed")


def test_a_finished_run_is_left_alone_and_no_resume_starts_over(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    config = make_config()
    train(config, tiny_data, tmp_path)
    (tmp_path / "own-notes.txt").write_text("kept")
    before, events = weights(tmp_path), list[Event]()
    train(config, tiny_data, tmp_path, on_event=events.append)
    assert weights(tmp_path) == before
    assert not any(isinstance(event, StepDone) for event in events)
    train(replace(config, seed=1), tiny_data, tmp_path, resume=False)
    assert weights(tmp_path) != before
    assert (tmp_path / "own-notes.txt").exists()
    assert len(means(tmp_path)) == 2


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_has_the_shell_s_exit_code(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, signum: int
) -> None:
    with pytest.raises(TrainingInterrupted) as caught:
        train(make_config(), tiny_data, tmp_path, stop=stop_after(3, signum))
    assert caught.value.exit_code == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum]
    assert newest_checkpoint(tmp_path).name == "step-00000003"


def test_a_stop_on_the_very_last_step_is_a_finished_run(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    assert train(make_config(), tiny_data, tmp_path, stop=stop_after(10)).epochs == 2


def test_another_configuration_is_refused_with_both_values(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    train(make_config(), tiny_data, tmp_path)
    with pytest.raises(PlanMismatch, match=r"lr: the run has 0\.0002, this command requests 0\.5") as caught:
        train(make_config(lr=0.5, width=8), tiny_data, tmp_path)
    assert "width: the run has 4, this command requests 8" in str(caught.value)
    assert "seed" not in str(caught.value)


def test_other_data_is_refused_with_both_names(tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData) -> None:
    train(make_config(), tiny_data, tmp_path)
    changed = make_image_data(255 - tiny_data.images_NHWC, tiny_data.labels, tiny_data.class_names, "other")
    with pytest.raises(PlanMismatch, match=r"trained on tiny .*this data is other"):
        train(make_config(), changed, tmp_path)


def test_events_metrics_and_previews(tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData) -> None:
    events = list[Event]()
    info = train(make_config(epochs=3, preview_every=2), tiny_data, tmp_path, on_event=events.append)
    started = next(event for event in events if isinstance(event, RunStarted))
    assert (started.step, started.steps_per_epoch, started.steps_total) == (0, 5, 15)
    done = [event.step for event in events if isinstance(event, StepDone)]
    assert done == list(range(1, 16))
    epochs = [event.metrics for event in events if isinstance(event, EpochDone)]
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert info.metrics == epochs[-1]
    previews = [event.path.name for event in events if isinstance(event, Saved) and event.what == "preview"]
    assert previews == ["epoch-0002.png", "epoch-0003.png"]
    with Image.open(tmp_path / "previews" / "epoch-0003.png") as grid:
        assert grid.size == (10 * 30 - 2, 2 * 30 - 2)  # a row per class


def test_a_resume_on_other_threads_is_logged(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_config(epochs=1), tiny_data, tmp_path)
    events = list[Event]()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    train(make_config(epochs=2), tiny_data, tmp_path, on_event=events.append)
    notes = [event.text for event in events if isinstance(event, Notice)]
    assert "the run had threads 1, now 2: it continues, but not bit for bit" in notes


@pytest.mark.parametrize("family", ["dcgan", "conv-vae"])
def test_a_bad_batch_leaves_no_trace_in_the_weights(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, family: str
) -> None:
    state = RunState(make_config(family))
    good_BCHW, labels_B = torch.rand(8, 1, 28, 28), torch.arange(8) % 2
    state.take_step(good_BCHW, labels_B, state.rng)
    before = state.snapshot(0, tiny_data).tensors
    before = {name: {key: t.clone() for key, t in part.items()} for name, part in before.items()}
    losses = state.take_step(good_BCHW * float("inf"), labels_B, state.rng)
    assert not np.isfinite(list(losses.values())).all()
    after = state.snapshot(0, tiny_data).tensors
    for name in ("generator", "auxiliary", "optimizers"):
        for key, tensor in before[name].items():
            assert torch.equal(after[name][key], tensor), (name, key)


def test_bad_steps_are_counted_and_stop_the_run_when_in_a_row(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, calls = gan.update, iter(range(1000))

    def sometimes(*arguments: Any) -> torch.Tensor:
        return torch.ones(()) if next(calls) in bad else update(*arguments)

    monkeypatch.setattr(gan, "update", sometimes)
    bad = {0, 3}  # the first step's discriminator, the second's generator
    events = list[Event]()
    train(make_config(max_bad_steps=3), tiny_data, tmp_path / "a", on_event=events.append)
    assert [event.step for event in events if isinstance(event, StepSkipped)] == [1, 2]
    assert means(tmp_path / "a")[0]["skipped_steps"] == 2

    calls, bad = iter(range(1000)), set(range(12, 1000))
    with pytest.raises(TrainingDiverged, match=r"3 steps in a row, up to step 9.*d = "):
        train(make_config(max_bad_steps=3), tiny_data, tmp_path / "b")
    assert newest_checkpoint(tmp_path / "b").name == "step-00000005"


def test_too_high_a_rate_diverges_with_a_message(tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData) -> None:
    with pytest.raises(TrainingDiverged, match="use a lower --lr"):
        train(make_config("mlp-vae", lr=1e30, epochs=100), tiny_data, tmp_path)


def test_a_second_process_and_a_read_only_place_are_refused(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    with locked(tmp_path), pytest.raises(OutputLocked, match="another process is training in"):
        train(make_config(), tiny_data, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write to"):
        train(make_config(), tiny_data, tmp_path / "file" / "run")


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_config(epochs=1), tiny_data, tmp_path)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gen_engine.train.runs.sealed.write_file", full)
        with pytest.raises(OutputError, match="No space left on device"):
            train(make_config(epochs=2), tiny_data, tmp_path)
    assert newest_checkpoint(tmp_path).name == "step-00000005"
    assert train(make_config(epochs=2), tiny_data, tmp_path).epochs == 2


def test_what_does_not_fit_is_refused_before_the_first_step(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    unlabelled = make_image_data(tiny_data.images_NHWC, None, None, "bare")
    cases = [
        (make_config(), unlabelled, DataError, "--conditional needs labels and bare has none"),
        (make_config(num_classes=3), tiny_data, ConfigError, "the model has 3 classes, tiny has 2"),
        (make_config(image_size=32), tiny_data, ConfigError, "images of 28×28×1, the model makes 32×32×1"),
        (make_config(batch=41), tiny_data, ConfigError, "batch 41 is more than the 40 images"),
    ]
    for config, data, error, message in cases:
        with pytest.raises(error, match=message):
            train(config, data, tmp_path / "run")
    assert not has_checkpoint(tmp_path / "run")


def test_order_is_a_permutation_that_depends_on_seed_and_epoch() -> None:
    orders = [tuple(data_order(seed, epoch, 50)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert data_order(0, 0, 5).tolist() == data_order(0, 0, 5).tolist()


def test_pixels_reach_the_step_in_minus_one_to_one(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    images = tiny_data.images_NHWC.copy()
    images[:, 0, 0, 0], images[:, 0, 1, 0] = 0, 255
    data = make_image_data(images, tiny_data.labels, tiny_data.class_names, "edges")
    trainer = Trainer(make_config(), data, tmp_path, lambda event: None, lambda: None)
    seen = []

    class Seen(LaunchedStep):
        def __call__(self, x: torch.Tensor, y: torch.Tensor | None, rng: torch.Generator) -> dict[str, float]:
            seen.append((x, y))
            return {"loss": 0.0}

    trainer.state.take_step = Seen(trainer.state.take_step._step)
    trainer._one_step(np.array([3, 0]))
    images_BCHW, labels_B = seen[0]
    assert images_BCHW.shape == (2, 1, 28, 28)
    assert images_BCHW[:, 0, 0, :2].tolist() == [[-1.0, 1.0]] * 2
    assert labels_B.tolist() == [1, 0]


def test_moving_average_has_the_decay_it_says() -> None:
    layer = torch.nn.BatchNorm1d(1)
    average = moving_average(layer, 0.9)  # type: ignore[arg-type]
    expected = None
    for step in range(200):
        value = float(step % 7)
        layer.weight.data.fill_(value)
        layer.running_mean.fill_(2 * value)  # type: ignore[union-attr]
        average.update_parameters(layer)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert average.module.running_mean.item() == pytest.approx(2 * expected, rel=1e-5)


def test_settings_of_torch_are_given_back(tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    train(make_config(epochs=1), tiny_data, tmp_path)
    assert not torch.are_deterministic_algorithms_enabled()
