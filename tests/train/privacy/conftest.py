"""Small runs of a private GAN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.options import PrivacyOptions
from gen_engine.train.runs import loop

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def given_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> list[ImageData]:
    """The data that training loops got from then on."""
    given: list[ImageData] = []

    class Spy(loop.Trainer):
        def __init__(self, config: TrainConfig, data: ImageData, *rest: Any) -> None:
            given.append(data)
            super().__init__(config, data, *rest)

    monkeypatch.setattr(loop, "Trainer", Spy)
    return given


@pytest.fixture
def private_gan(make_config: MakeConfig) -> MakeConfig:
    """Return a small configuration of a GAN whose discriminator is private; 5 steps an epoch on the tiny data."""
    pytest.importorskip("opacus")

    def make(family: str = "dcgan", **changes: object) -> TrainConfig:
        options = PrivacyOptions(dp_epsilon=10.0, dp_mechanism="gan", dp_delta=1e-3)
        defaults = {"privacy_options": options, "loss": "non-saturating", "spectral": False, "epochs": 4}
        return make_config(family, **{**defaults, **changes})

    return make
