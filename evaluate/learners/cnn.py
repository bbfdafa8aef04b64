"""A small convolutional network, trained for the same number of steps however many rows there are.

It is trained on the GPU if there is one. The same rows and seed give the same network on the same processor with as
many threads.

Shape suffixes: N rows, B batch, C channels, H height, W width, K classes, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gen_engine.evaluate.features.pixels import pixels_of
from gen_engine.evaluate.split import Split
from gen_engine.train.device import deterministic, home_of, resolve_device

BATCH: Final = 128
STEPS: Final = 2_340
"""Steps of a full training: five epochs of 60,000 rows."""

SHIFT: Final = 2
"""Most pixels that an augmented image of 28×28 is moved by; larger ones in proportion."""

WIDTH: Final = 128
"""Features before the last layer."""

_SCORED: Final = 1_000

Augmentation = Literal["none", "shift", "shift-and-flip"]


@dataclass(frozen=True)
class Cnn:
    """Trains the network with Adam and a one-cycle schedule.

    Args:
        steps: optimiser steps, whatever the number of rows.
        augmentation: ``shift`` moves every image at random; ``shift-and-flip`` also mirrors it, which digits and
            letters do not allow.
        class_weights: weigh every image by the inverse of its class's frequency.
    """

    steps: int = STEPS
    augmentation: Augmentation = "none"
    class_weights: bool = False
    name: str = "cnn"

    @property
    def identity(self) -> str:
        """The network and its training."""
        augmented = "" if self.augmentation == "none" else f", {self.augmentation} augmentation"
        weighted = ", class weights" if self.class_weights else ""
        return f"CNN of 2 convolutions, Adam, {self.steps:,} steps of {BATCH}{augmented}{weighted}"

    def fit(self, train: Split, seed: int) -> CnnModel:
        """Train on a split's images and classes, on the GPU if there is one."""
        device = resolve_device("auto")
        classes, ids = train.classes, train.class_ids
        assert classes is not None
        assert ids is not None
        pixels_NCHW = torch.from_numpy(np.array(pixels_of(train).transpose(0, 3, 1, 2), order="C"))
        pixels_NCHW = pixels_NCHW.to(home_of(pixels_NCHW.nbytes, device))
        labels_N = torch.from_numpy(ids).to(device)
        weights_K = _inverse_frequencies(ids, len(classes)).to(device) if self.class_weights else None
        with _seeded(seed, device), _exact(device):
            network = make_network(tuple(pixels_NCHW.shape[1:]), len(classes)).train().to(device)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster
            optimizer = torch.optim.Adam(network.parameters(), 1e-3)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=self.steps)
            for rows_B in _batches(len(train), self.steps):
                chosen_BCHW = pixels_NCHW[rows_B.to(pixels_NCHW.device)].to(device)
                x_BCHW = self._augmented(_as_input(chosen_BCHW))
                loss = functional.cross_entropy(network(x_BCHW), labels_N[rows_B.to(device)], weights_K)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        return CnnModel(network.eval())

    def _augmented(self, x_BCHW: Tensor) -> Tensor:
        if self.augmentation == "none":
            return x_BCHW
        shift = max(1, round(SHIFT * x_BCHW.shape[2] / 28))
        padded = functional.pad(x_BCHW, [shift] * 4, value=float(x_BCHW.min()))
        height, width = x_BCHW.shape[2:]
        device = x_BCHW.device
        # Drawn on the CPU, so that images move alike on every device.
        down, right = torch.randint(0, 2 * shift + 1, (2, len(x_BCHW))).to(device)
        rows = (down[:, None] + torch.arange(height, device=device))[:, :, None]
        columns = (right[:, None] + torch.arange(width, device=device))[:, None, :]
        every = torch.arange(len(x_BCHW), device=device)[:, None, None]
        moved = padded[every, :, rows, columns].permute(0, 3, 1, 2)
        if self.augmentation == "shift-and-flip":
            mirrored = (torch.rand(len(moved)) < 0.5).to(device)
            moved = torch.where(mirrored[:, None, None, None], moved.flip(3), moved)
        return moved


@dataclass(frozen=True, eq=False)
class CnnModel:
    """A trained network."""

    network: nn.Sequential

    def scores(self, split: Split) -> NDArray[np.float64]:
        """Return the probability of each class, float64 [N, K]."""
        logits_NK = self._run(split, self.network)
        return np.asarray(torch.softmax(torch.from_numpy(logits_NK).double(), 1).numpy())

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return what the last layer sees, float32 [N, F]."""
        return self._run(split, self.network[:-2])

    @torch.inference_mode()
    def _run(self, split: Split, layers: nn.Module) -> NDArray[np.float32]:
        pixels_NHWC = pixels_of(split)
        device = next(self.network.parameters()).device
        parts = []
        with _exact(device.type):
            for at in range(0, len(split), _SCORED):
                pixels_BCHW = torch.from_numpy(pixels_NHWC[at : at + _SCORED].transpose(0, 3, 1, 2).copy())
                parts.append(layers(_as_input(pixels_BCHW.to(device))).cpu().numpy())
        return np.concatenate(parts)


def make_network(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return the network for images of [C, H, W], which are halved until a side has 7 pixels at most, twice or more."""
    channels, side = shape[0], min(shape[1:])
    layers: list[nn.Module] = []
    height, width, maps = shape[1], shape[2], 32
    while len(layers) < 6 or min(height, width) > 7:
        layers += [nn.Conv2d(channels, maps, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if side >= 8 else [nn.Identity()]
        if side >= 8:
            height, width, side = height // 2, width // 2, side // 2
        channels, maps = maps, 64
    layers += [nn.Flatten(), nn.Linear(channels * height * width, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(WIDTH, classes))


def arithmetic() -> str:
    """Return what the last bits of a training depend on, for a figure's conditions."""
    if resolve_device("auto") == "cuda":
        return f"float32 on {torch.cuda.get_device_name()}"
    return f"float32 on the CPU, {torch.get_num_threads()} threads"


def _inverse_frequencies(ids: NDArray[np.int64], classes: int) -> Tensor:
    """Return the weight of each class, float32 [K]: 1 if all are as frequent, 0 for a class without rows."""
    counts_K = torch.bincount(torch.from_numpy(ids), minlength=classes).float()
    return torch.where(counts_K > 0, len(ids) / ((counts_K > 0).sum() * counts_K), 0.0)


def _as_input(pixels_BCHW: Tensor) -> Tensor:
    return (pixels_BCHW.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)


def _batches(rows: int, steps: int) -> Iterator[Tensor]:
    """Yield the rows of each step: epochs in random order, each row as often as any other, give or take one."""
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(left) < BATCH:
            left = torch.cat([left, torch.randperm(rows)])
        yield left[:BATCH]
        left = left[BATCH:]


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch's global generators, which layers draw from, and restore them."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _exact(device: str) -> Iterator[None]:
    """Deterministic kernels in float32: a GPU's convolutions would round their inputs to TF32 by default."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with deterministic(device):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
