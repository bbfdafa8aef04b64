"""A search that takes a second: a tiny model, a few digits, a figure that costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gen_engine.train.data.image_data import ImageData
from gen_engine.train.models import Generator
from gen_engine.train.options import TrainOptions
from gen_engine.train.search.space import SearchSpace

pytest.importorskip("optuna")


@dataclass(frozen=True)
class MeanDistance:
    """How far the mean sample is from the mean held-out image, which falls as training goes on."""

    identity: str = "distance of means"
    better: str = "lower"
    calls: Any = None

    def __call__(self, generator: Generator, held_out: ImageData) -> float:
        torch.rand(3)  # a figure may draw: training must not notice
        z_NZ = torch.randn(64, generator.latent_dim, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(64) % generator.num_classes if generator.num_classes else None
        made = generator(z_NZ, labels).mean(0).numpy().transpose(1, 2, 0)
        real = held_out.images_NHWC.mean(0) / 127.5 - 1
        if self.calls is not None:
            self.calls.append(generator)
        return float(np.square(made - real).mean())


@pytest.fixture
def objective() -> MeanDistance:
    return MeanDistance()


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace.from_json({"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "hidden": [8, 16]})


@pytest.fixture
def make_base(tmp_path: Path) -> Callable[..., TrainOptions]:
    """Options on 120 digits, which training is fast on."""
    from gen_engine.train.data.digits import read_digits

    digits = read_digits()
    path = tmp_path / "digits.npz"
    np.savez(path, images=digits.images_NHWC[:120], labels=digits.labels[:120])

    def make(**changes: Any) -> TrainOptions:
        small: dict[str, Any] = {"model": "mlp-gan", "hidden": 8, "latent_dim": 4, "batch": 32, "epochs": 2}
        machine: dict[str, Any] = {"device": "cpu", "precision": "fp32", "threads": 1, "preview_every": 0}
        return TrainOptions(**{"data": str(path), **small, **machine, **changes})

    return make
