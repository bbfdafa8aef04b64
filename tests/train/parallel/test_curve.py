"""Two processes have the curve of one, resume at another number, and repeat themselves to the bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gen_engine.train import train
from gen_engine.train.errors import TrainingInterrupted
from gen_engine.train.runs.checkpoint import FILES, load_checkpoint, load_generator, newest_checkpoint
from gen_engine.train.runs.events import Event, Notice, StepDone

CASES = {
    # Batch and spectral normalisation, a second backward pass, an adaptive augmentation, parts of a batch.
    "gan": {
        "model": "dcgan",
        "class_norm": True,
        "r1": 0.1,
        "penalty_every": 2,
        "diffaugment": "colour,translation,cutout",
        "diffaugment_probability": 0.5,
        "diffaugment_target": 0.6,
        "accumulate": 2,
    },
    "critic": {
        "model": "residual",
        "loss": "wasserstein",
        "spectral": False,
        "gradient_penalty": 10.0,
        "discriminator_steps": 2,
    },
    "vae": {"model": "res-vae"},
    "vae-gan": {"model": "vae-gan"},
}


def curve(out: Path, options: dict[str, Any], **more: Any) -> list[dict[str, float]]:
    """The losses of each step of a run."""
    losses = []

    def keep(event: Event) -> None:
        if isinstance(event, StepDone):
            losses.append(event.losses)

    train(out=out, on_event=keep, **{**options, **more})
    return losses


def images_of(run_dir: Path) -> torch.Tensor:
    """Images of the averaged generator, from the same codes."""
    generator, _ = load_generator(run_dir)
    codes = torch.randn(16, generator.code_dim, generator=torch.Generator().manual_seed(0))
    return generator.from_code(codes, torch.arange(16) % 2)


def stop_after(count: int) -> Callable[[], int | None]:
    requested = iter(range(1, 1_000_000))
    return lambda: signal.SIGINT if next(requested) == count else None


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_curve_of_one(tmp_path: Path, options: dict[str, Any], case: str) -> None:
    options |= CASES[case]
    one, two = (curve(tmp_path / f"{count}", options, processes=count) for count in (1, 2))
    assert len(one) == len(two) >= 20
    for step, (alone, together) in enumerate(zip(one, two, strict=True)):
        assert together == pytest.approx(alone, rel=2e-3, abs=2e-4), step
    before, after = (load_checkpoint(tmp_path / name) for name in ("1", "2"))
    assert (before.record.processes, after.record.processes) == (1, 2)
    for name in ("generator", "generator-ema", "auxiliary"):
        assert before.tensors[name].keys() == after.tensors[name].keys()
    # Not the weights: those that have no effect, such as biases before a normalisation, follow the rounding.
    torch.testing.assert_close(images_of(tmp_path / "2"), images_of(tmp_path / "1"), rtol=0.0, atol=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("started")
def test_a_stopped_run_continues_at_other_numbers_of_processes(tmp_path: Path, options: dict[str, Any]) -> None:
    options |= CASES["gan"]
    straight = curve(tmp_path / "straight", options)
    notices: list[str] = []

    def keep(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)

    for count in (2, 1):
        with pytest.raises(TrainingInterrupted):
            train(out=tmp_path / "run", stop=stop_after(8), on_event=keep, **options, processes=count)
    last = curve(tmp_path / "run", options, processes=2)
    assert last == [pytest.approx(losses, rel=2e-3, abs=2e-4) for losses in straight[16:]]
    assert "resuming after step 8 (epoch 0)" in notices
    assert "the run had processes 2, now 1: it continues, but not bit for bit" in notices
    ends = [json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("straight", "run")]
    assert ends[1]["d"] == pytest.approx(ends[0]["d"], rel=2e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("started")
def test_two_processes_stopped_and_resumed_end_with_the_same_bytes(tmp_path: Path, options: dict[str, Any]) -> None:
    options |= CASES["gan"] | {"processes": 2}
    curve(tmp_path / "straight", options)
    with pytest.raises(TrainingInterrupted):
        train(out=tmp_path / "stopped", stop=stop_after(11), **options)
    curve(tmp_path / "stopped", options)
    ends = [newest_checkpoint(tmp_path / name) for name in ("straight", "stopped")]
    for name in FILES:
        first, second = (load_file(path / f"{name}.safetensors") for path in ends)
        assert all(torch.equal(value, second[key]) for key, value in first.items()), name
