"""Training a student: step n sees samples [n·B, (n + 1)·B) of the teacher, so that no sample is seen twice, and a run
that was killed continues with the same steps.

Legend: B batch, Z latent dimensions, C channels, H height, W width.
"""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.engine.base.levels import from_levels
from gen_engine.train.device import deterministic, set_threads
from gen_engine.train.distill.objective import image_distance
from gen_engine.train.distill.options import LessonOptions
from gen_engine.train.distill.saved import Saved, load_state, save_state
from gen_engine.train.errors import CheckpointError, TrainingDiverged, TrainingInterrupted, TrainingTerminated
from gen_engine.train.models import Generator
from gen_engine.train.runs.checkpoint import check_tensors
from gen_engine.train.runs.run_dir import writing

WARM_STEPS = 200
"""Steps over which the learning rate rises from 0."""

FROZEN_FROM = {"teacher": 0.1, "random": 0.5}
"""Origin of the first weights → share of the steps after which batch normalisation keeps its statistics, as sampling
does: those of a batch are noise in an image that should be a function of its own latents. On the shipped bundle at half
its operations, one run of 800 steps each reached a loss of 0.0425 with 0.1 and 0.0470 with 0.5 from the teacher's
weights, 0.0750 and 0.0729 from random ones."""

MOMENTUM = 0.02
"""Weight of a batch in the statistics of batch normalisation: a mean over about fifty batches."""

Stop = Callable[[], "int | None"]
"""Called after every step: a signal's number to save and stop, or None."""


class Lesson(NamedTuple):
    """What a teacher makes of some latents."""

    z_BZ: NDArray[np.float32]
    labels_B: NDArray[np.int64] | None
    pixels_BHWC: NDArray[np.uint8]


Lessons = Callable[[int, int], Iterator[Lesson]]
"""From the first and the last step, exclusive, to the lesson of each."""


def train_student(
    student: Generator,
    lessons: Lessons,
    options: LessonOptions,
    work: Path,
    settings: Mapping[str, Any],
    *,
    initial: str = "random",
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    stop: Stop = lambda: None,
) -> float:
    """Train a student in place, continuing what is in ``work``, and leave it in eval mode on the CPU.

    Args:
        student: with its first weights, on the CPU.
        lessons: the teacher.
        options: with device and precision resolved.
        work: an existing directory, held by this process.
        settings: everything that decides what a step computes; a state of other settings is refused.
        initial: where the student's first weights are from, a key of :data:`FROZEN_FROM`.
        on_step: is told the steps taken and the loss of the last.
        stop: see :data:`Stop`.

    Returns:
        The mean loss over the last tenth of the steps of this call; NaN if none was left to take.

    Raises:
        PlanMismatch: ``work`` has a state of other settings.
        CheckpointError: its state is damaged.
        OutputError: the disk refuses.
        TrainingDiverged: a loss was not finite.
        TrainingInterrupted: ``stop`` returned a signal, and the state is saved.
    """
    set_threads(options.threads)
    with deterministic(options.device):
        trainer = _Trainer(student.to(options.device), options, work, settings)
        trainer.frozen_from = FROZEN_FROM[initial] * options.steps
        trainer.restore()
        try:
            return trainer.run(lessons, on_step, stop)
        finally:
            student.eval().to("cpu")


class _Trainer:
    def __init__(self, student: Generator, options: LessonOptions, work: Path, settings: Mapping[str, Any]) -> None:
        self.student, self.options, self.work, self.settings = student, options, work, settings
        student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a sixth faster on a CPU
        for module in student.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
        self.parameters = list(student.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, options.lr, betas=(0.9, 0.99))
        self.step = self.saved_at = 0
        self.frozen_from = 0.0

    def restore(self) -> None:
        """Continue a state, if there is one."""
        saved = load_state(self.work, self.settings)
        if saved is None:
            return
        try:
            weights, moments = _split(saved.tensors)
            check_tensors(self.student, weights)
            self.student.load_state_dict(weights)
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the state in {self.work} does not fit its own settings: {error}") from error
        self.step = self.saved_at = saved.step

    def run(self, lessons: Lessons, on_step: Callable[[int, float], None], stop: Stop) -> float:
        """Take the steps that are left; the mean loss over the last tenth of all steps."""
        total, losses = self.options.steps, []
        with contextlib.closing(lessons(self.step, total)) as left:  # type: ignore[type-var]
            for lesson in left:
                loss = self._take(lesson)
                self.step += 1
                if self.step > 0.9 * total:
                    losses.append(loss)
                on_step(self.step, loss)
                if (signum := stop()) is not None:
                    self._interrupted(signum)
                if self.step % self.options.checkpoint_every == 0 or self.step == total:
                    self._save()
        return float(np.mean(losses)) if losses else math.nan

    def _take(self, lesson: Lesson) -> float:
        options, device = self.options, self.options.device
        self.student.train(self.step < self.frozen_from)
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr * _schedule(self.step, options.steps)
        z_BZ = torch.from_numpy(lesson.z_BZ).to(device)
        labels_B = None if lesson.labels_B is None else torch.from_numpy(np.array(lesson.labels_B)).to(device)
        wanted_BHWC: Tensor = from_levels(torch.from_numpy(lesson.pixels_BHWC).to(device).float())
        with torch.autocast(device, torch.bfloat16, enabled=options.precision == "bf16"):
            made_BCHW = self.student(z_BZ, labels_B)
        loss = image_distance(made_BCHW.float(), wanted_BHWC.permute(0, 3, 1, 2))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss of step {self.step} is {value}: use a lower --lr or --precision fp32, with --no-resume"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value

    def _save(self) -> None:
        tensors = {f"student/{name}": value for name, value in self.student.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items()}
        on_cpu = {name: value.detach().cpu() for name, value in tensors.items()}
        with writing(self.work):
            save_state(self.work, Saved(settings=self.settings, step=self.step, tensors=on_cpu))
        self.saved_at = self.step

    def _interrupted(self, signum: int) -> None:
        if self.saved_at != self.step:
            self._save()
        kind = TrainingTerminated if signum == signal.SIGTERM else TrainingInterrupted
        raise kind(f"interrupted after step {self.step}, saved in {self.work}: the same command continues")


def _schedule(step: int, total: int) -> float:
    """The learning rate of a step relative to its highest: a linear rise, then half a cosine down to 0."""
    warm = min(WARM_STEPS, total // 10)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
    """The student's tensors, and the optimiser's by parameter; ValueError for a name that is neither."""
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        if part == "student":
            weights[rest] = value
        elif part == "optimizer":
            index, _, moment = rest.partition("/")
            moments.setdefault(int(index), {})[moment] = value
        else:
            raise ValueError(f"unknown tensor {name!r}")
    return weights, moments
