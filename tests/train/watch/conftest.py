"""Runs on digits with faults planted in them, watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gen_engine.train.config import resolve_config
from gen_engine.train.data import read_data
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.options import TrainOptions
from gen_engine.train.runs.events import Alarmed, Event
from gen_engine.train.runs.loop import run_training
from gen_engine.train.watch.alarm import Alarm


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return read_data("digits", TrainOptions(data="digits"))


@pytest.fixture
def watched(tmp_path: Path, digits: ImageData) -> Callable[..., list[Alarm]]:
    """Train on digits and return the alarms; keywords are those of TrainOptions."""

    def run(out: Path | None = None, on_event: Callable[[Event], None] = lambda event: None, **fields: Any) -> Any:
        values = {
            "data": "digits",
            "conditional": True,
            "batch": 64,
            "width": 8,
            "preview_every": 0,
            "watch": True,
            "precision": "fp32",
            "checkpoint_every": 1000,
            "keep_best": "none",
        }
        options = TrainOptions(**{**values, **fields})
        raised: list[Alarm] = []

        def note(event: Event) -> None:
            if isinstance(event, Alarmed):
                raised.append(event.alarm)
            on_event(event)

        run_training(resolve_config(options, digits), digits, out or tmp_path / "run", on_event=note)
        return raised

    return run
