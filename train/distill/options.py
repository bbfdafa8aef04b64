"""What a user may ask of a distillation. Imports no torch.

The command line makes its flags from these fields and shows the docstring under each as the flag's help.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from gen_engine.train.errors import ConfigError
from gen_engine.train.options import flag_name

STUDENTS = ("dcgan", "residual", "style", "mlp-gan")
"""Families whose generators may be students."""

INITIAL = ("auto", "teacher", "random")
"""Where a student's first weights may come from."""


@dataclass(frozen=True, kw_only=True)
class StudentOptions:
    """How large the student is: exactly one of speedup, max_bytes and width; ConfigError otherwise."""

    speedup: float | None = None
    """Least factor by which the student needs fewer floating-point operations per sample than the teacher, such as 2;
    its width is the largest one that reaches it."""

    max_bytes: int | None = None
    """Most bytes of the student's graph with its weights, such as 3MB, instead of --speedup."""

    width: int | None = None
    """Feature maps next to the image, or units of the hidden layer of mlp-gan, instead of --speedup."""

    model: str | None = None
    """Family of the student: dcgan, residual, style or mlp-gan; by default mlp-gan if the teacher has no convolutions,
    and dcgan otherwise."""

    initial: str = "auto"
    """First weights: teacher, its most important channels, where the two are built alike; random; auto is teacher where
    they are."""

    def __post_init__(self) -> None:
        given = {
            name: value for name in ("speedup", "max_bytes", "width") if (value := getattr(self, name)) is not None
        }
        if len(given) != 1:
            named = " and ".join(f"--{flag_name(name)}" for name in given) or "none of them"
            raise ConfigError(f"give one of --speedup, --max-bytes and --width; this command has {named}")
        if self.speedup is not None and not (isfinite(self.speedup) and self.speedup > 1.0):
            raise ConfigError(f"speedup is {self.speedup}: it must be above 1")
        for name in ("max_bytes", "width"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{flag_name(name)} is {value}: it must be at least 1")
        if self.model is not None and self.model not in STUDENTS:
            raise ConfigError(f"model {self.model!r} is no student: use one of {', '.join(STUDENTS)}")
        if self.initial not in INITIAL:
            raise ConfigError(f"initial is {self.initial!r}: use one of {', '.join(INITIAL)}")


@dataclass(frozen=True, kw_only=True)
class LessonOptions:
    """How the student is trained; ConfigError for a value out of range."""

    steps: int = 8_000
    """Optimisation steps; every one has samples that no other has."""

    batch: int = 64
    """Samples per step."""

    lr: float = 2e-3
    """Adam's learning rate at its highest; it falls to 0 along half a cosine."""

    seed: int = 0
    """Seed of the latents, of weighted labels and of random first weights."""

    checkpoint_every: int = 500
    """Steps between checkpoints."""

    device: str = "auto"
    """Where the student trains: auto, cpu or cuda."""

    precision: str = "auto"
    """auto, fp32, or bf16 for autocast; auto is bf16 where the processor has it."""

    threads: int | None = None
    """CPU threads of the student's training, and of the teacher beside it; the weights depend on their number.
    [default: torch's own choice]"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{flag_name(name)} is {value}: it must be at least 1")
        if self.batch < 2:
            raise ConfigError("batch is 1: batch normalisation needs at least 2")
        if not 0.0 < self.lr < float("inf"):
            raise ConfigError(f"lr is {self.lr}: it must be above 0")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}: it must be 0 to {2**63 - 1}")
