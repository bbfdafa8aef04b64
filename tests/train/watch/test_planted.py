"""Planted failures: each raises its alarm within two epochs of its beginning, and good runs raise none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gen_engine.engine.base.levels import from_levels
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.models.mlp_gan import MlpGenerator
from gen_engine.train.runs.checkpoint import load_checkpoint
from gen_engine.train.runs.events import EpochDone, Event
from gen_engine.train.watch.alarm import Alarm

Watched = Callable[..., list[Alarm]]
MLP: dict[str, Any] = {"model": "mlp-gan", "lr": 1e-3, "hidden": 64}


class Switch:
    """On from the end of an epoch."""

    def __init__(self, after: int) -> None:
        self.after, self.on = after, after == 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochDone) and event.metrics["epoch"] >= self.after:
            self.on = True


@pytest.mark.parametrize("after", [0, 3, 12])
def test_a_generator_that_ignores_its_latents(watched: Watched, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    switch, forward = Switch(after), MlpGenerator.forward
    monkeypatch.setattr(
        MlpGenerator,
        "forward",
        lambda self, z_BZ, labels_B=None: forward(self, z_BZ * (0.0 if switch.on else 1.0), labels_B),
    )
    raised = watched(on_event=switch, epochs=after + 4, **MLP)
    assert [alarm.kind for alarm in raised] == ["collapse"]
    # Of the first 50 steps nothing is said: an epoch has 28, so the second look is the first that counts.
    assert raised[0].epoch <= max(after, 1) + 2
    assert "the generator ignores its latents" in raised[0].saw or "; it was " in raised[0].saw
    assert "--lr-discriminator" in raised[0].try_


@pytest.mark.parametrize("after", [3, 12])
def test_a_collapse_of_one_class_alone(watched: Watched, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    switch, forward = Switch(after), MlpGenerator.forward

    def one_class(self: Any, z_BZ: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        if switch.on:
            z_BZ = torch.where((labels_B == 3)[:, None], 0.0, z_BZ)
        return forward(self, z_BZ, labels_B)

    monkeypatch.setattr(MlpGenerator, "forward", one_class)
    raised = watched(on_event=switch, epochs=after + 3, **MLP)
    assert [(alarm.kind, alarm.epoch <= after + 2) for alarm in raised] == [("collapse", True)]


@pytest.mark.parametrize("family", ["dcgan", "mlp-gan"])
def test_an_enormous_learning_rate(watched: Watched, family: str, tmp_path: Path) -> None:
    raised = watched(model=family, lr=5.0, epochs=2)
    assert (raised[0].kind, raised[0].epoch) == ("divergence", 1)
    assert "norm of the" in raised[0].saw
    assert "lower --lr" in raised[0].try_
    assert load_checkpoint(tmp_path / "run").record.alarms == tuple(raised)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["alarms"][0] == raised[0].to_json()


@pytest.mark.parametrize("share", [1.0, 0.2])
@pytest.mark.parametrize("after", [1, 4])
def test_a_generator_that_returns_training_rows(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, digits: ImageData, after: int, share: float
) -> None:
    switch, forward = Switch(after), MlpGenerator.forward
    rows_NCHW = from_levels(torch.from_numpy(digits.images_NHWC.transpose(0, 3, 1, 2).copy()).float())

    def copying(self: Any, z_BZ: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        images_BCHW = forward(self, z_BZ, labels_B)
        if not switch.on:
            return images_BCHW
        chosen_B = (z_BZ[:, 0].abs() * 1e6).long() % len(rows_NCHW)
        copied_B = z_BZ[:, 1].abs().argsort().argsort() < share * len(z_BZ)
        return torch.where(copied_B[:, None, None, None], rows_NCHW[chosen_B], images_BCHW)

    monkeypatch.setattr(MlpGenerator, "forward", lambda *args: copying(*args) + 0.0 * forward(*args))
    raised = [alarm for alarm in watched(on_event=switch, epochs=after + 2, **MLP) if alarm.kind == "memorisation"]
    assert [alarm.epoch for alarm in raised] == [after + 1]
    assert "of the samples are as near to one training row as 1 % of training rows are" in raised[0].saw


GOOD: tuple[dict[str, Any], ...] = (
    {"model": "mlp-gan", "lr": 1e-3, "epochs": 15},
    {"model": "mlp-gan", "lr": 1e-3, "epochs": 15, "conditional": False, "seed": 1},
    {"model": "dcgan", "epochs": 5, "seed": 2},
    {"model": "mlp-vae", "epochs": 10, "seed": 3},
    {"model": "conv-vae", "epochs": 4, "seed": 2},  # its KL term grows twentyfold from the first epoch to the second
)


@pytest.mark.parametrize("fields", GOOD)
def test_good_runs_raise_nothing(watched: Watched, fields: dict[str, Any]) -> None:
    assert watched(**fields) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_ten_longer_good_runs_raise_nothing(watched: Watched, seed: int) -> None:
    family = ("dcgan", "mlp-gan", "conv-vae")[seed % 3]
    epochs = {"dcgan": 8, "mlp-gan": 30, "conv-vae": 8}[family]
    assert watched(model=family, seed=seed, epochs=epochs, conditional=seed % 2 == 0) == []
