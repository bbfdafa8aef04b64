"""Distil a generator: choose a student, train it, judge it, and write its bundle if it passes."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from gen_engine.engine.errors import GateFailed, OutputError
from gen_engine.engine.identity.bundle import Bundle, OutputSpec, refuse_existing, write_bundle
from gen_engine.engine.sinks.apart import check_apart
from gen_engine.evaluate.distill.gate import Verdict, check_gate, judge
from gen_engine.evaluate.distill.request import DistillRequest
from gen_engine.evaluate.distill.speed import measured_speedup
from gen_engine.export.distill.flops import count_flops
from gen_engine.export.distill.prune import inherit
from gen_engine.export.distill.student import Chosen, choose_student
from gen_engine.export.distill.teacher import JUDGED, Teacher, check_images, teacher_bundle
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.parity import Parity, check_parity
from gen_engine.export.record import exported
from gen_engine.export.torch_graph import to_onnx, torch_reference
from gen_engine.train.device import resolve_device, resolve_precision
from gen_engine.train.distill.loop import train_student
from gen_engine.train.distill.options import LessonOptions, StudentOptions
from gen_engine.train.distill.saved import DOCUMENT_NAME
from gen_engine.train.distill.student import build_student
from gen_engine.train.errors import ConfigError
from gen_engine.train.models import Generator
from gen_engine.train.runs.run_dir import LOCK, locked

OBJECTIVE: Final = "Charbonnier penalty at 3 scales"
_INHERITED: Final = ("data", "privacy")
"""What a teacher's record says that holds of its student as well: it learned from nothing else."""


class Watcher(Protocol):
    """Sees what a distillation does."""

    def message(self, text: str) -> None:
        """Something that was chosen, or is about to be done."""
        ...

    def stepped(self, step: int, total: int, loss: float) -> None:
        """A step was taken."""
        ...

    def stop(self) -> int | None:
        """Return a signal's number to save and stop, or None."""
        ...


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """What came out."""

    bundle: Bundle
    teacher: Bundle
    speedup: float | None
    """By floating-point operations; None where those of the teacher cannot be counted."""

    measured: float
    """Samples per second ÷ the teacher's, both as they are run here."""

    verdict: Verdict


def distill(
    source: Path,
    request: DistillRequest,
    out: Path,
    *,
    checkpoint: str = "last",
    resume: bool = True,
    watcher: Watcher,
) -> Distilled:
    """Train a smaller student of a generator, and write its bundle if the gate passes it.

    It keeps its state in ``NAME.distill`` beside ``out``, and removes it once the bundle is written: the same call
    continues after a kill, and after a refusal it only judges again.

    Args:
        source: a bundle of one 8-bit image, or a training run's directory.
        request: how large the student is, how it is trained, and what it may lose.
        out: the student's bundle, NAME.gen.
        checkpoint: of a run: ``last``, ``best`` or ``step-N``.
        resume: False to discard the state of an earlier call.
        watcher: sees progress.

    Raises:
        RequestError: an option cannot be met.
        BundleError, CheckpointError, UnsupportedGenerator: the source is damaged, or cannot be distilled.
        BackendError: it cannot be run, or its samples are all equal.
        OutputError: ``out`` exists, or another distillation is in the place of its state.
        GateFailed: the student loses too much; nothing is written, and its state stays.
        TrainingInterrupted: the watcher's ``stop`` returned a signal.
    """
    refuse_existing(out, overwrite=None)
    check_apart(source, out)
    request = _resolved(request)
    with _work(out, resume) as work:
        bundle = teacher_bundle(source, work, checkpoint)
        check_images(bundle)
        check_gate(request.gate)
        with Teacher(bundle, request.lessons.seed, request.lessons.threads) as teacher:
            return _distilled(teacher, request, out, work, watcher)


def _distilled(teacher: Teacher, request: DistillRequest, out: Path, work: Path, watcher: Watcher) -> Distilled:
    chosen = choose_student(teacher, request.student)
    student, initial = _first(teacher, chosen, request)
    flops = _check_cost(student, teacher, chosen, request.student)
    speedup = None if chosen.teacher_flops is None else chosen.teacher_flops / flops
    watcher.message(_described(chosen, speedup, initial))
    total = request.lessons.steps
    loss = train_student(
        student,
        partial(teacher.lessons, request.lessons.batch),
        request.lessons,
        work,
        _settings(teacher, chosen, initial, request.lessons),
        initial=initial,
        on_step=lambda step, value: watcher.stepped(step, total, value),
        stop=watcher.stop,
    )
    watcher.message("comparing the student with its teacher")
    record = {
        "teacher": {"name": teacher.bundle.name, "digest": teacher.bundle.digest},
        "teacher_generator": teacher.bundle.generator_id,
        "initial": initial,
        "objective": OBJECTIVE,
        "flops": flops,
        "teacher_flops": chosen.teacher_flops,
        "speedup": None if speedup is None else round(speedup, 4),
    }
    graph = to_onnx(student)
    parity = check_parity(torch_reference(student, teacher.bundle.latent.distribution), graph)
    write = partial(_write, graph=graph, parity=parity, teacher=teacher.bundle, chosen=chosen, request=request)
    candidate = write(work / "candidate.gen", record=record, overwrite=True)
    verdict = judge(teacher.bundle, candidate, request.gate, request.lessons.seed)
    if verdict.failures:
        raise GateFailed(_refusal(verdict, work))
    record |= {"gate": verdict.to_json()} | ({} if loss != loss else {"loss": round(loss, 6)})
    bundle = write(out, record=record)
    measured = measured_speedup(teacher.bundle, bundle)
    return Distilled(bundle=bundle, teacher=teacher.bundle, speedup=speedup, measured=measured, verdict=verdict)


def _resolved(request: DistillRequest) -> DistillRequest:
    lessons = request.lessons
    device = resolve_device(lessons.device)
    precision = resolve_precision(lessons.precision, device)
    return replace(request, lessons=replace(lessons, device=device, precision=precision))


@contextlib.contextmanager
def _work(out: Path, resume: bool) -> Iterator[Path]:
    """Hold the directory of a distillation's state; it is removed if it has none in the end, or is finished."""
    work = out.with_name(f"{out.name.removesuffix('.gen')}.distill")
    if work.exists() and not (work / LOCK).is_file() and (not work.is_dir() or any(work.iterdir())):
        raise OutputError(f"{work} exists and holds no distillation, and its state would be kept there; move it away")
    with locked(work):
        if not resume:
            for path in (*work.glob("state-*.safetensors"), work / DOCUMENT_NAME):
                path.unlink(missing_ok=True)
        try:
            yield work
        finally:
            if out.exists() or not (work / DOCUMENT_NAME).exists():
                shutil.rmtree(work)


def _first(teacher: Teacher, chosen: Chosen, request: DistillRequest) -> tuple[Generator, str]:
    """Return the student with its first weights, and where they are from."""
    with torch.random.fork_rng():
        torch.manual_seed(request.lessons.seed)
        student = build_student(chosen.config)
    wanted = request.student.initial
    if wanted != "random" and inherit(student, teacher.graph, teacher.feeds(JUDGED)):
        return student, "teacher"
    if wanted == "teacher":
        raise ConfigError(
            f"initial teacher: bundle {teacher.bundle.name} is not built like a {chosen.config.model.family}, so it "
            "has no channels to begin with; use --initial random"
        )
    return student, "random"


def _check_cost(student: Generator, teacher: Teacher, chosen: Chosen, options: StudentOptions) -> float:
    """Return the operations of the student's own graph; UnsupportedGenerator if it misses what was asked for."""
    graph = to_onnx(student.eval())
    flops = count_flops(graph, teacher.feeds(1))
    if options.max_bytes is not None and len(graph) > options.max_bytes:
        raise UnsupportedGenerator(
            f"the student's graph takes {len(graph):,} bytes, more than --max-bytes {options.max_bytes:,}: use --width "
            f"{max(1, chosen.config.size - 1)} or less instead"
        )
    assert chosen.teacher_flops is None or options.speedup is None or flops <= chosen.teacher_flops / options.speedup
    return flops


def _described(chosen: Chosen, speedup: float | None, initial: str) -> str:
    model = chosen.config.model
    less = "" if speedup is None else f", {speedup:.3g} times fewer operations than the teacher"
    start = "the teacher's most important channels" if initial == "teacher" else "random weights"
    return f"student: {model.family} of width {chosen.config.size}{less}, from {start}"


def _settings(teacher: Teacher, chosen: Chosen, initial: str, lessons: LessonOptions) -> dict[str, Any]:
    """Return everything that decides what a step computes."""
    model = {f"model_{name}": value for name, value in dataclasses.asdict(chosen.config.model).items()}
    own = dataclasses.asdict(lessons)
    own.pop("checkpoint_every")
    return {
        "teacher": teacher.bundle.generator_id,
        "teacher_runtime": teacher.runtime,
        "initial": initial,
        "torch": torch.__version__,
        **own,
        "threads": lessons.threads or torch.get_num_threads(),
        **model,
    }


def _refusal(verdict: Verdict, work: Path) -> str:
    fixes = (
        f"Nothing was written. Train longer (--steps, with --no-resume), ask for less, or allow more; with the same "
        f"training options its state in {work} is judged again without training"
    )
    return "\n  ".join([f"the student loses too much: {verdict.summary()}", *verdict.failures, fixes])


def _write(
    path: Path,
    *,
    graph: bytes,
    parity: Parity,
    teacher: Bundle,
    chosen: Chosen,
    request: DistillRequest,
    record: Mapping[str, Any],
    overwrite: bool = False,
) -> Bundle:
    """Write a student's bundle, as `export` writes a run's."""
    lessons = request.lessons
    training = {
        "model": dataclasses.asdict(chosen.config.model),
        **{name: teacher.training[name] for name in _INHERITED if name in teacher.training},
        "steps": lessons.steps,
        "batch": lessons.batch,
        "optimizer": {"name": "adam", "lr": lessons.lr, "betas": [0.9, 0.99]},
        "seed": lessons.seed,
        "device": lessons.device,
        "precision": lessons.precision,
        "distilled": {**record, "bytes": len(graph)},
    } | exported(graph, ("torch", "onnx", "onnxscript"))
    shape = teacher.output.shape
    return write_bundle(
        path,
        name=path.name.removesuffix(".gen"),
        latent=teacher.latent,
        labels=teacher.labels,
        output=OutputSpec(kind="image", shape=shape, name=teacher.output.name),
        generator=graph,
        training=training,
        parity=parity.to_json(),
        overwrite=overwrite,
    )
