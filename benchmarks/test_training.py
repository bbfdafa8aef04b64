"""One training step of each kind of model, on all threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from limits import THREADS, matrix_product
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gen_engine.train.config import TrainConfig
from gen_engine.train.device import has_bf16
from gen_engine.train.models import MODELS, ModelConfig, build_auxiliary, build_generator, family_of
from gen_engine.train.runs.state import RunState

BATCH = 128
AS_THE_EXAMPLE = {"fp32": 1.0, "bf16": 1.5}
"""Least speed beside the loop of PyTorch's DCGAN example, by precision."""


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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_beside_the_dcgan_example(against, precision: str) -> None:
    """Unit: a step on 64 images of 28 × 28, beside one of PyTorch's DCGAN example on the same networks, in fp32."""
    model = ModelConfig(family="dcgan", image_size=28, channels=1)
    state = RunState(TrainConfig(model=model, loss="non-saturating", precision=precision))
    images = torch.rand(64 if against.real else 4, 1, 28, 28) * 2 - 1

    def step() -> None:
        torch.set_num_threads(THREADS)
        state.add_good(state.take_step(images, None, state.rng))

    ratios = against(step, dcgan_example(model, images), rounds=40)
    least = AS_THE_EXAMPLE[precision] if precision == "fp32" or has_bf16("cpu") else 0.0
    ratio = sorted(ratios)[len(ratios) // 2]
    against.require(f"dcgan {precision}: training beside PyTorch's example", ratio, at_least=least)


def dcgan_example(model: ModelConfig, images_BCHW: torch.Tensor) -> Callable[[], None]:
    """A step of pytorch/examples, dcgan/main.py: real and generated images in passes of their own, all losses read."""
    generator, discriminator = build_generator(model), build_auxiliary(model)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (discriminator, generator)
    ]
    criterion = nn.BCEWithLogitsLoss()
    real, fake = torch.ones(len(images_BCHW)), torch.zeros(len(images_BCHW))

    def judge(seen_BCHW: torch.Tensor, target: torch.Tensor) -> float:
        logits = discriminator(seen_BCHW)
        loss = criterion(logits, target)
        loss.backward()
        return float(logits.detach().mean()) + float(loss.detach())

    def step() -> None:
        torch.set_num_threads(THREADS)
        discriminator.zero_grad()
        judge(images_BCHW, real)
        made_BCHW = generator(torch.randn(len(images_BCHW), model.latent_dim))
        judge(made_BCHW.detach(), fake)
        optimizers[0].step()
        generator.zero_grad()
        judge(made_BCHW, real)
        optimizers[1].step()

    return step
