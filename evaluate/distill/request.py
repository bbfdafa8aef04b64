"""What a distillation is asked for. Imports neither torch nor NumPy: the command line makes its flags from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gen_engine.engine.errors import RequestError
from gen_engine.train.distill.options import LessonOptions, StudentOptions


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """What a student may lose, and how it is measured; RequestError for a value out of range."""

    max_loss: float = 0.25
    """Largest share by which the student's Fréchet distance from the teacher may exceed the teacher's own over another
    seed: 0.05 allows 1.05 times as much."""

    max_class_loss: float = 0.05
    """Largest share of a class's samples, 0 to 1, that a classifier takes for other classes although it recognises as
    many of the teacher's."""

    gate_rows: int = 10_000
    """Samples in each of the three sets; with more of them a smaller difference shows."""

    features: str | None = None
    """What distances are measured in, as in 'gen-engine evaluate': by default a classifier trained on the teacher's
    samples, or without classes pca, the principal components of their pixels."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_loss < float("inf"):
            raise RequestError(f"max-loss is {self.max_loss}: it must be at least 0")
        if not 0.0 <= self.max_class_loss <= 1.0:
            raise RequestError(f"max-class-loss is {self.max_class_loss}: it must be 0 to 1")
        if self.gate_rows < 2:
            raise RequestError(f"gate-rows is {self.gate_rows}: it must be at least 2")


@dataclass(frozen=True, kw_only=True)
class DistillRequest:
    """What a distillation is asked for."""

    student: StudentOptions
    """Size of the student."""

    lessons: LessonOptions = field(default_factory=LessonOptions)
    """How it is trained."""

    gate: GateOptions = field(default_factory=GateOptions)
    """What it may lose."""
