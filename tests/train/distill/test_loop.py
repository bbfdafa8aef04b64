"""Training a student: the same weights after any interruption, and nothing of another run is continued."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gen_engine.engine.errors import PlanMismatch, RequestError
from gen_engine.train.distill.loop import Lesson, train_student
from gen_engine.train.distill.objective import image_distance
from gen_engine.train.distill.options import LessonOptions, StudentOptions
from gen_engine.train.distill.student import StudentConfig, build_student, image_size_for
from gen_engine.train.errors import CheckpointError, TrainingDiverged, TrainingInterrupted, TrainingTerminated
from gen_engine.train.models import Generator, ModelConfig

STEPS = 12
OPTIONS = LessonOptions(steps=STEPS, batch=8, checkpoint_every=5, device="cpu", precision="fp32", threads=1)
SETTINGS = {"teacher": "a" * 64, "steps": STEPS}
MODEL = ModelConfig(family="dcgan", image_size=28, num_classes=3, latent_dim=4, label_dim=2, width=2)


def student() -> Generator:
    torch.manual_seed(3)
    return build_student(StudentConfig(model=MODEL, height=28, width=28))


def lessons(first: int, last: int) -> Iterator[Lesson]:
    """Bright images of one class, dark ones of the others; step n is a function of n."""
    for step in range(first, last):
        rng = np.random.default_rng(step)
        labels = rng.integers(0, 3, 8)
        pixels = np.where(labels == 1, 220, 30)[:, None, None, None] + rng.integers(0, 9, (8, 28, 28, 1))
        yield Lesson(rng.standard_normal((8, 4)).astype(np.float32), labels, pixels.astype(np.uint8))


def weights(network: Generator) -> dict[str, Any]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def trained(work: Path, stop_at: int | None = None, signum: int = signal.SIGINT, **more: Any) -> Generator:
    network = student()
    seen: list[int] = []
    train_student(
        network,
        lessons,
        OPTIONS,
        work,
        SETTINGS | more,
        on_step=lambda step, loss: seen.append(step),
        stop=lambda: signum if seen[-1] == stop_at else None,
    )
    return network


def test_a_student_learns_from_its_teacher(tmp_path: Path) -> None:
    network, losses = student(), []
    options = LessonOptions(steps=150, batch=8, lr=0.02, device="cpu", precision="fp32", threads=1)
    last = train_student(network, lessons, options, tmp_path, {}, on_step=lambda step, loss: losses.append(loss))
    assert last < 0.5 * losses[0]
    assert not network.training
    with torch.no_grad():
        made = network(torch.randn(30, 4), torch.arange(30) % 3).mean((1, 2, 3))
    assert (made[1::3] > 0).all()
    assert (made[0::3] < 0).all()


@pytest.mark.parametrize("at", [1, 5, 7, 12])
def test_an_interrupted_run_ends_with_the_same_weights(at: int, tmp_path: Path) -> None:
    whole = weights(trained(tmp_path / "whole" if (tmp_path / "whole").mkdir() is None else tmp_path))
    (tmp_path / "cut").mkdir()
    with pytest.raises(TrainingInterrupted, match=f"after step {at}"):
        trained(tmp_path / "cut", at)
    assert len(list((tmp_path / "cut").iterdir())) == 2  # the document and one state
    resumed = weights(trained(tmp_path / "cut"))
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_sigterm_has_its_own_exit_code(tmp_path: Path) -> None:
    with pytest.raises(TrainingTerminated) as caught:
        trained(tmp_path, 2, signal.SIGTERM)
    assert caught.value.exit_code == 143


def test_a_finished_state_is_not_trained_again(tmp_path: Path) -> None:
    first = weights(trained(tmp_path))
    network = student()

    def none(first: int, last: int) -> Iterator[Lesson]:
        assert first == last, "no lesson is asked for"
        yield from ()

    train_student(network, none, OPTIONS, tmp_path, SETTINGS)
    assert all(np.array_equal(first[name], value) for name, value in weights(network).items())


def test_a_state_of_other_settings_is_refused_with_both_values(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        trained(tmp_path, 2)
    with pytest.raises(PlanMismatch, match=f"teacher: there it is '{'a' * 64}', this command has '{'b' * 64}'"):
        trained(tmp_path, teacher="b" * 64)


@pytest.mark.parametrize("damage", ["byte", "cut", "missing", "path", "link", "json"])
def test_a_damaged_state_is_refused(damage: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        trained(tmp_path, 2)
    (state,), document = tmp_path.glob("state-*"), tmp_path / "distill.json"
    content = state.read_bytes()
    if damage == "byte":
        state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        state.write_bytes(content[:-1])
    elif damage == "missing":
        state.unlink()
    elif damage == "link":
        state.rename(tmp_path / "elsewhere")
        state.symlink_to(tmp_path / "elsewhere")
    elif damage == "path":
        from gen_engine.engine.base.digests import seal

        stated = json.loads(document.read_bytes())
        stated.pop("digest")
        stated["file"]["name"] = "../state.safetensors"
        document.write_bytes(seal(stated))
    else:
        document.write_bytes(document.read_bytes().replace(b'"step"', b'"stop"'))
    with pytest.raises(CheckpointError, match=r"distill\.json cannot be used"):
        trained(tmp_path)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        trained(tmp_path, 2)
    other = build_student(StudentConfig(model=MODEL, height=28, width=28).resized(3))
    with pytest.raises(CheckpointError, match="does not fit its own settings"):
        train_student(other, lessons, OPTIONS, tmp_path, SETTINGS)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    network = student()
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="step 0 is nan"):
        train_student(network, lessons, OPTIONS, tmp_path, SETTINGS)


def test_an_error_over_many_pixels_weighs_more_than_noise() -> None:
    wanted = torch.zeros(1, 1, 16, 16)
    noise = torch.ones(16, 16).mul(0.1)
    noise[::2, 1::2] *= -1
    noise[1::2, ::2] *= -1
    even, uneven = image_distance(wanted + 0.1, wanted), image_distance(wanted + noise, wanted)
    assert float(even) == pytest.approx(0.1, rel=1e-3)
    assert float(uneven) < 0.5 * float(even)


def test_a_cropped_student_makes_the_middle() -> None:
    config = StudentConfig(model=MODEL, height=20, width=24)
    torch.manual_seed(3)
    cropped = build_student(config).eval()
    z, labels = torch.randn(2, 4), torch.tensor([0, 2])
    with torch.no_grad():
        whole, part = student().eval()(z, labels), cropped(z, labels)
    assert cropped.image_shape == (1, 20, 24)
    assert torch.equal(part, whole[:, :, 4:24, 2:26])


@pytest.mark.parametrize(("height", "width", "size"), [(28, 28, 28), (20, 29, 32), (48, 48, 64), (1, 128, 128)])
def test_the_smallest_model_that_holds_the_image(height: int, width: int, size: int) -> None:
    assert image_size_for(height, width) == size
    assert image_size_for(129, 1) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "none of them"),
        ({"speedup": 2.0, "max_bytes": 10}, "--speedup and --max-bytes"),
        ({"speedup": 1.0}, "above 1"),
        ({"speedup": float("nan")}, "above 1"),
        ({"max_bytes": 0}, "at least 1"),
        ({"width": -1}, "at least 1"),
        ({"width": 4, "model": "vae"}, "is no student"),
        ({"width": 4, "initial": "best"}, "use one of auto, teacher, random"),
    ],
)
def test_sizes_that_cannot_be_meant(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        StudentOptions(**options)


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch": 1}, {"lr": 0.0}, {"lr": float("inf")}, {"seed": -1}])
def test_lessons_that_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"^{next(iter(options))} is "):
        LessonOptions(**options)
