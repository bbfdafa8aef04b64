"""Small data and small configurations: a whole run takes a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.models import ModelConfig, family_of


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny_data() -> ImageData:
    """40 images, 28×28 grey, 2 classes: bright and dark."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.integers(0, 100, (40, 28, 28, 1)) + 150 * labels[:, None, None, None]
    return make_image_data(images.astype(np.uint8), labels.astype(np.int64), ("dark", "bright"), "tiny")


@pytest.fixture
def make_config() -> Callable[..., TrainConfig]:
    """A small configuration of a family; keywords are TrainConfig's or ModelConfig's."""

    def make(family: str = "dcgan", **changes: object) -> TrainConfig:
        shape_names = {field.name for field in fields(ModelConfig)}
        shapes = {"latent_dim": 4, "label_dim": 3, "width": 4, "hidden": 8, "num_classes": 2, "image_size": 28}
        shapes |= {name: changes.pop(name) for name in list(changes) if name in shape_names}
        config = TrainConfig(
            model=ModelConfig(family=family, **shapes),
            loss=family_of(family).default_loss,
            epochs=2,
            batch=8,
        )
        return replace(config, **changes)

    return make
