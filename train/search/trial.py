"""One trial: a run of `train`, measured at every checkpoint, pruned, finished, or left for the next call."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from gen_engine.engine.errors import BackendError, BackendUnavailable
from gen_engine.train import TrainOptions, train
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import ConfigError, TrainingDiverged
from gen_engine.train.models import Generator
from gen_engine.train.runs.checkpoint import has_checkpoint, load_generator
from gen_engine.train.runs.events import DataRead, Event, OnEvent, Saved
from gen_engine.train.runs.loop import Stop
from gen_engine.train.search.record import TrialRecord
from gen_engine.train.search.space import with_values
from gen_engine.train.search.study import Journal


class Objective(Protocol):
    """What trials are judged by: cheap, and a function of the weights and the rows alone."""

    @property
    def identity(self) -> str:
        """The figure and how it is computed; another identity is another search."""
        ...

    @property
    def better(self) -> str:
        """ "higher" or "lower"."""
        ...

    def __call__(self, generator: Generator, held_out: ImageData) -> float:
        """Return the figure.

        Args:
            generator: the moving average, in eval mode, on the CPU; without gradients.
            held_out: rows that it was not trained on.
        """
        ...


class _Pruned(Exception):
    """The trial is not worth training on."""


class _NotFinite(Exception):
    """The figure is no number."""


@dataclass
class Trial:
    """A trial that runs, or ran before it was killed."""

    record: TrialRecord
    run_dir: Path
    base: TrainOptions
    """The recipe, on the rows that trials train on."""

    held_out: ImageData
    objective: Objective
    journal: Journal
    on_event: OnEvent
    stop: Stop
    _started: float = field(default_factory=time.monotonic)
    _reported: set[int] = field(default_factory=set)
    _epochs: int = 0

    def run(self) -> TrialRecord:
        """Train from the last checkpoint, or the beginning, to an end that the journal keeps.

        Raises:
            TrainingInterrupted: `stop` returned a signal; the same call continues.
            EngineError: what no other values would avoid, such as a full disk.
        """
        self._reported = {epoch for epoch, _ in self.record.reports}
        try:
            options = with_values(self.base, self.record.params)
            self._epochs = options.epochs
            if has_checkpoint(self.run_dir):  # a process that was killed may have saved it and not measured it
                self._measure()
            train(options, out=self.run_dir, on_event=self._heard, stop=self.stop)
        except _Pruned:
            return self._finish("pruned")
        except BackendUnavailable:
            raise
        except (TrainingDiverged, BackendError, ConfigError, _NotFinite) as error:
            return self._finish("failed", str(error))
        return self._finish("complete")

    def _heard(self, event: Event) -> None:
        if not isinstance(event, DataRead):  # the same rows in every trial
            self.on_event(event)
        if isinstance(event, Saved) and event.what == "checkpoint":
            self._measure()

    def _measure(self) -> None:
        """Measure the newest checkpoint, unless that was done, and stop a trial that is to be pruned.

        A checkpoint inside an epoch has that of the epoch before it, which was measured.
        """
        with torch.random.fork_rng():  # building a generator draws from torch's own state, which training goes on from
            generator, info = load_generator(self.run_dir)
            epoch = info.epochs
            new = epoch > 0 and epoch not in self._reported
            value = float(self.objective(generator, self.held_out)) if new else 0.0
        if new:
            if not math.isfinite(value):
                raise _NotFinite(f"its figure after epoch {epoch} is {value}, which ranks nothing")
            self.journal.report(self.record.number, epoch, value, self._seconds())
            self._reported.add(epoch)
        if self._reported and epoch < self._epochs and self.journal.should_prune(self.record.number):
            raise _Pruned

    def _finish(self, state: str, failure: str | None = None) -> TrialRecord:
        return self.journal.finish(self.record.number, state, self._seconds(), failure)

    def _seconds(self) -> float:
        return self.record.seconds + time.monotonic() - self._started
