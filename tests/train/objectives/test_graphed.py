"""Steps that the processor does not wait for, and their replay as a CUDA graph: the steps that there were before."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gen_engine.train.config import TrainConfig
from gen_engine.train.device import deterministic
from gen_engine.train.models import MODELS, ModelConfig, family_of
from gen_engine.train.objectives.graphed import EAGER_STEPS, GraphedStep
from gen_engine.train.objectives.step import LaunchedStep
from gen_engine.train.runs.state import RunState

BATCH, STEPS = 8, EAGER_STEPS + 4
BAD = EAGER_STEPS + 1
"""A step that has a pixel which is no number, when a graph is there already."""


def state_of(family: str, device: str, precision: str = "fp32") -> RunState:
    model = ModelConfig(family=family, image_size=28, num_classes=3, width=8, hidden=16)
    return RunState(
        TrainConfig(model=model, loss=family_of(family).default_loss, device=device, precision=precision, batch=BATCH)
    )


def take(state: RunState, step: Callable[..., dict[str, float]], bad: int | None) -> list[str]:
    """Take the steps; return their losses as text, in which NaN is equal to itself."""
    losses = []
    for number in range(STEPS):
        images_BCHW = torch.rand(BATCH, 1, 28, 28, generator=torch.Generator().manual_seed(number)) * 2 - 1
        if number == bad:
            images_BCHW[0, 0, 0, 0] = float("nan")
        labels_B = torch.arange(BATCH) % 3
        device = state.config.device
        losses.append(str(step(images_BCHW.to(device), labels_B.to(device), state.rng)))
    return losses


def everything(state: RunState) -> dict[str, torch.Tensor]:
    """Weights, buffers, moments and counts of steps."""
    found: dict[str, torch.Tensor] = {}
    for name, network in (("generator", state.generator), ("auxiliary", state.auxiliary)):
        found |= {f"{name} {key}": value.cpu() for key, value in network.state_dict().items()}
    for name, optimizer in state.take_step.optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            found |= {f"{name} {index} {key}": value.cpu() for key, value in entries.items()}
    return found


def assert_equal(one: RunState, other: RunState) -> None:
    ours, theirs = everything(one), everything(other)
    assert ours.keys() == theirs.keys()
    assert not [key for key in ours if not torch.equal(ours[key], theirs[key])]


def launched(state: RunState) -> LaunchedStep:
    """The steps of a run on a GPU, launched one by one."""
    graphed: Any = state.take_step
    return LaunchedStep(graphed._step)


@pytest.mark.parametrize("family", MODELS)
def test_a_bad_step_leaves_weights_moments_and_statistics_as_they_were(family: str) -> None:
    state = state_of(family, "cpu")
    take(state, state.take_step, None)
    before = {name: value.clone() for name, value in everything(state).items()}
    images_BCHW = torch.full((BATCH, 1, 28, 28), float("nan"))

    losses = state.take_step(images_BCHW, torch.arange(BATCH) % 3, state.rng)

    assert any(value != value for value in losses.values())
    assert not [key for key, value in everything(state).items() if not torch.equal(value, before[key])]


@pytest.mark.gpu
@pytest.mark.parametrize(("family", "precision"), list(itertools.product(MODELS, ["fp32", "bf16"])))
def test_a_replayed_step_is_the_launched_one(family: str, precision: str) -> None:
    with deterministic("cuda"):
        one, other = state_of(family, "cuda", precision), state_of(family, "cuda", precision)
        assert isinstance(one.take_step, GraphedStep)
        assert take(one, one.take_step, BAD) == take(other, launched(other), BAD)
        assert_equal(one, other)


@pytest.mark.gpu
def test_a_state_that_is_loaded_after_a_capture_is_the_one_that_is_trained(tmp_path: Path) -> None:
    from gen_engine.train.data.image_data import make_image_data

    data = make_image_data(torch.zeros(BATCH, 28, 28, 1, dtype=torch.uint8).numpy(), None, None, "black")
    with deterministic("cuda"):
        one, other = state_of("dcgan", "cuda"), state_of("dcgan", "cuda")
        take(one, one.take_step, None)
        take(other, other.take_step, BAD)  # another state, and a graph of it
        other.load(one.snapshot(0, data))
        assert take(one, one.take_step, None) == take(other, other.take_step, None)
        assert_equal(one, other)
