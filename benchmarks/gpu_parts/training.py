"""Training on the GPU: images per second of our step and of the usual loop, the same bits twice, and resumed.

Shape suffixes: B batch, C channels, H height, W width, Z latent dimensions.
"""

from __future__ import annotations

import math
import tempfile
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np

from gpu_parts.contract import Findings, Missing, seconds_of

BATCH = 128
COMPARED = 8
"""Steps whose weights are compared: more than come before a graph is captured."""

STEPS = 20
"""A timing; seven of them are taken."""


def run(found: Findings) -> None:
    """All of it; first what is compared, then what is measured."""
    if find_spec("torch") is None:
        raise Missing("torch is not installed: pip install 'gen-engine[train]'")
    import torch

    if not torch.cuda.is_available():
        raise Missing(f"torch {torch.__version__} finds no GPU")
    from gen_engine.train.models import ModelConfig

    recipe = ModelConfig(family="dcgan", image_size=28, num_classes=10, latent_dim=64, label_dim=16)
    models = {"DCGAN 64×64×3": ModelConfig(family="dcgan", image_size=64, channels=3), "the shipped recipe": recipe}
    for name, model in models.items():
        for precision in ("fp32", "bf16"):
            _repeats(found, f"{name}, {precision}", model, precision)
    for name, model in models.items():
        for precision in ("fp32", "bf16"):
            _speed(found, f"{name}, {precision}", model, precision)
    _usual_loop(found)
    _whole_run(found, models["DCGAN 64×64×3"])


def _config(model: object, precision: str, **more: object) -> object:
    from gen_engine.train.config import TrainConfig

    return TrainConfig(model=model, loss="non-saturating", device="cuda", precision=precision, batch=BATCH, **more)


def _batch(model: object) -> tuple[object, object]:
    """Return images_BCHW in [-1, 1] and labels_B or None, on the GPU."""
    import torch

    torch.manual_seed(1)
    images_BCHW = torch.rand(BATCH, *model.image_shape, device="cuda") * 2 - 1
    classes = model.num_classes
    return images_BCHW, torch.randint(classes, (BATCH,), device="cuda") if classes else None


def _repeats(found: Findings, name: str, model: object, precision: str) -> None:
    """A few steps twice, with deterministic kernels: finite losses, and equal weights."""
    import torch

    from gen_engine.train.device import deterministic
    from gen_engine.train.runs.state import RunState

    weights, losses = [], {}
    with deterministic("cuda"):
        for _ in range(2):
            state = RunState(_config(model, precision))
            images_BCHW, labels_B = _batch(model)
            for _ in range(COMPARED):
                losses = state.take_step(images_BCHW, labels_B, state.rng)
                state.add_good(losses)
            weights.append([p.detach().cpu() for p in state.averaged_generator.parameters()])
    found.check(f"losses are finite: {name}", all(map(math.isfinite, losses.values())), str(losses))
    equal = all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    found.check(f"the same weights twice: {name}", equal, f"{COMPARED} steps, bit for bit")
    equal = all(torch.equal(one, other) for one, other in zip(weights[0], _launched(model, precision), strict=True))
    found.check(f"the graph's weights are those of launched steps: {name}", equal, f"{COMPARED} steps, bit for bit")


def _launched(model: object, precision: str) -> list[object]:
    """Return the weights after as many steps, without a CUDA graph."""
    from gen_engine.train.device import deterministic
    from gen_engine.train.objectives.step import LaunchedStep
    from gen_engine.train.runs.state import RunState

    with deterministic("cuda"):
        state = RunState(_config(model, precision))
        images_BCHW, labels_B = _batch(model)
        for _ in range(COMPARED):
            state.add_good(LaunchedStep(state.take_step._step)(images_BCHW, labels_B, state.rng))
        return [p.detach().cpu() for p in state.averaged_generator.parameters()]


def _speed(found: Findings, name: str, model: object, precision: str) -> None:
    """Images per second of the step alone, images on the GPU already."""
    import torch

    from gen_engine.train.device import deterministic
    from gen_engine.train.runs.state import RunState

    with deterministic("cuda"):
        state = RunState(_config(model, precision))
        images_BCHW, labels_B = _batch(model)

        def steps() -> None:
            for _ in range(STEPS):
                state.add_good(state.take_step(images_BCHW, labels_B, state.rng))
            torch.cuda.synchronize()

        steps()
        took = seconds_of(steps, repeats=7)
    found.figure(f"training step: {name}", STEPS * BATCH / took, "images/s")


def _usual_loop(found: Findings) -> None:
    """The DCGAN of PyTorch's own example at 64×64×3, in its own loop: the yardstick for the step."""
    import torch
    from torch import nn

    def normal(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)

    maps = (512, 256, 128, 64)
    up: list[nn.Module] = [nn.ConvTranspose2d(100, 512, 4, 1, 0, bias=False), nn.BatchNorm2d(512), nn.ReLU(True)]
    for inputs, outputs in pairwise(maps):
        up += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    down: list[nn.Module] = [nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for inputs, outputs in pairwise(maps[::-1]):
        down += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, True)]
    generator = nn.Sequential(*up, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh()).cuda().apply(normal)
    judge = nn.Sequential(*down, nn.Conv2d(512, 1, 4, 1, 0, bias=False), nn.Sigmoid()).cuda().apply(normal)
    of_g = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    of_d = torch.optim.Adam(judge.parameters(), 2e-4, (0.5, 0.999))
    loss, real_BCHW = nn.BCELoss(), torch.rand(BATCH, 3, 64, 64, device="cuda") * 2 - 1
    ones, zeros = torch.ones(BATCH, device="cuda"), torch.zeros(BATCH, device="cuda")

    def step() -> tuple[float, float]:
        judge.zero_grad()
        d_real = loss(judge(real_BCHW).view(-1), ones)
        d_real.backward()
        fake_BCHW = generator(torch.randn(BATCH, 100, 1, 1, device="cuda"))
        d_fake = loss(judge(fake_BCHW.detach()).view(-1), zeros)
        d_fake.backward()
        of_d.step()
        generator.zero_grad()
        g = loss(judge(fake_BCHW).view(-1), ones)
        g.backward()
        of_g.step()
        return (d_real + d_fake).item(), g.item()  # as the example, which prints them

    def steps() -> None:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()

    steps()
    found.figure("PyTorch's DCGAN example, 64×64×3, fp32", STEPS * BATCH / seconds_of(steps, repeats=7), "images/s")
    tf32 = torch.backends.cudnn.allow_tf32
    found.check("which fp32", True, f"convolutions {'may round to' if tf32 else 'do not use'} TF32 in both loops")


def _whole_run(found: Findings, model: object) -> None:
    """``train`` with data, checkpoints and a stop: goes on to the same bits; images per second of an epoch."""
    from gen_engine.train.data.image_data import make_image_data
    from gen_engine.train.errors import TrainingInterrupted
    from gen_engine.train.runs.checkpoint import load_generator
    from gen_engine.train.runs.events import EpochDone
    from gen_engine.train.runs.loop import run_training

    images = np.random.default_rng(0).integers(0, 256, (64 * BATCH, 64, 64, 3), np.uint8)
    data = make_image_data(images, None, None, "noise")
    config = _config(model, "bf16", epochs=3, preview_every=3, checkpoint_every=3)
    rates: list[float] = []

    def heard(event: object) -> None:
        if isinstance(event, EpochDone):
            rates.append(event.metrics["samples_per_s"])

    with tempfile.TemporaryDirectory() as folder:
        run_training(config, data, Path(folder, "whole"), on_event=heard)
        found.figure("gen-engine train: DCGAN 64×64×3, bf16, an epoch with its data", max(rates), "images/s")
        asked = iter(range(10**6))
        try:
            run_training(config, data, Path(folder, "cut"), stop=lambda: 2 if next(asked) == 77 else None)
        except TrainingInterrupted:
            run_training(config, data, Path(folder, "cut"))
        nets = [load_generator(Path(folder, one))[0].state_dict() for one in ("whole", "cut")]
    equal = all(nets[0][key].equal(nets[1][key]) for key in nets[0])
    found.check("interrupted and resumed: the same weights", equal, "bf16, 192 steps, stopped after 78")
