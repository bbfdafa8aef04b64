"""One training step of each kind of model, on all threads."""

from __future__ import annotations

import pytest
import torch
from limits import THREADS, matrix_product
from torch.utils.flop_counter import FlopCounterMode

from gen_engine.train.config import TrainConfig
from gen_engine.train.models import MODELS, ModelConfig, family_of
from gen_engine.train.runs.state import RunState

BATCH = 128


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", MODELS)
def test_step(against, family: str, precision: str) -> None:
    """Unit: a step on 128 images of 28 × 28: both networks forward and backward, both optimisers, the moving average.

    Work: the FLOPs of the networks, counted by torch. Limit: the matrix product in the step's precision.
    """
    model = ModelConfig(family=family, image_size=28, channels=1)
    state = RunState(TrainConfig(model=model, loss=family_of(family).default_loss, precision=precision))
    batch = BATCH if against.real else 8
    images = torch.rand(batch, 1, 28, 28) * 2 - 1
    with FlopCounterMode(display=False) as counted:
        state.take_step(images, None, state.rng)

    def step() -> None:
        if torch.get_num_threads() != THREADS:  # the limit sets its own
            torch.set_num_threads(THREADS)
        state.add_good(state.take_step(images, None, state.rng))

    against(step, rounds=20, limit=matrix_product(precision), work=counted.get_total_flops())
    if against.real:
        seconds = sorted(against.times)[len(against.times) // 2]
        against.report(f"{family} {precision}: training", batch / seconds, "images/s")
