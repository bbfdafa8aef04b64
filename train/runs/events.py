"""What the loop reports to its caller, one frozen dataclass each; the loop itself never prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gen_engine.train.config import TrainConfig
    from gen_engine.train.watch.alarm import Alarm


@dataclass(frozen=True, kw_only=True)
class DataRead:
    """The training data are in memory."""

    name: str
    """Of the dataset, file or folder."""

    images: int
    """How many."""

    classes: int
    """How many; 0 without labels."""

    notes: tuple[str, ...]
    """`ImageData.notes`."""


@dataclass(frozen=True, kw_only=True)
class TableRead:
    """A table was read once; its columns have types."""

    name: str
    """Of the file or folder."""

    rows: int
    columns: int
    notes: tuple[str, ...]
    """The type of each column, or why it was left out."""


@dataclass(frozen=True, kw_only=True)
class ConfigResolved:
    """Device, precision and whatever else was left open are known."""

    config: TrainConfig


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """Before the first step: what is about to happen."""

    step: int
    """Steps already taken (0 unless resumed)."""

    steps_per_epoch: int
    """Steps in one epoch."""

    steps_total: int
    """Steps at the end of the last epoch."""

    batch: int
    """Images per step."""

    parameters: int
    """Weights of the generator."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something the user should know: a resume, a replaced run."""

    text: str


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """After every step."""

    step: int
    """Steps taken so far, this one included."""

    losses: dict[str, float]
    """By name; NaN where the update was left out."""

    samples: int
    """Training images in this step."""


@dataclass(frozen=True, kw_only=True)
class StepSkipped:
    """An update was left out: a loss or gradient was not finite."""

    step: int
    losses: dict[str, float]
    in_a_row: int


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """After every epoch: the line that metrics.jsonl gets."""

    metrics: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Alarmed:
    """The watch saw a failure begin."""

    alarm: Alarm


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint was committed or a preview written."""

    what: str
    """"checkpoint", "preview" or "best checkpoint"."""

    path: Path


Event = (
    DataRead | TableRead | ConfigResolved | RunStarted | Notice | StepDone | StepSkipped | EpochDone | Alarmed | Saved
)
OnEvent = Callable[[Event], None]
