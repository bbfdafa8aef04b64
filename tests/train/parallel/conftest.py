"""Runs of a second or two, whose other processes are started as the command starts them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen_engine.train.parallel import crew

STEPS = 24
"""Steps in an epoch of `options`."""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Of a small run on the images of two classes, one step on 8 of them."""
    rng = np.random.default_rng(0)
    labels = np.arange(8 * STEPS) % 2
    images = (rng.integers(0, 100, (8 * STEPS, 28, 28)) + 150 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    sizes = {"width": 4, "hidden": 8, "latent_dim": 4, "label_dim": 3}
    run = {"conditional": True, "batch": 8, "epochs": 1, "precision": "fp32", "device": "cpu", "threads": 1}
    return {"data": str(tmp_path / "images.npz"), "preview_every": 0, **sizes, **run}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that this test's runs have started; all must have ended."""
    processes: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            processes.append(self)

    monkeypatch.setattr(crew.subprocess, "Popen", Recorded)
    yield processes
    assert all(process.returncode is not None for process in processes)
