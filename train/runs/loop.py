"""The training loop: order of the data, steps, metrics, previews, checkpoints, resume.

A run is a function of its configuration and data: the order of epoch e comes from (seed, e), everything else random
from one stream whose state is saved, so a run that was stopped anywhere continues bit for bit on the same machine
and thread count. Legend: N images, B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gen_engine.engine.base.levels import from_levels
from gen_engine.engine.errors import BackendError, PlanMismatch
from gen_engine.train.config import TrainConfig, check_resumable
from gen_engine.train.data.image_data import ImageData, check_every_class, check_labels_given
from gen_engine.train.device import check_fits, deterministic
from gen_engine.train.errors import (
    CheckpointError,
    ConfigError,
    TrainingDiverged,
    TrainingInterrupted,
    TrainingTerminated,
)
from gen_engine.train.models import count_parameters
from gen_engine.train.parallel import collectives
from gen_engine.train.parallel.alike import check_alike, check_same_place, check_same_weights
from gen_engine.train.privacy.release import withheld
from gen_engine.train.privacy.sampled import SampledData
from gen_engine.train.privacy.source import Source, open_source
from gen_engine.train.runs.checkpoint import (
    CheckpointInfo,
    Snapshot,
    has_checkpoint,
    load_checkpoint,
    load_generator,
    save_checkpoint,
)
from gen_engine.train.runs.events import EpochDone, Notice, OnEvent, RunStarted, Saved, StepDone, StepSkipped
from gen_engine.train.runs.preview import write_preview
from gen_engine.train.runs.prior import fit_prior
from gen_engine.train.runs.rows import Rows
from gen_engine.train.runs.run_dir import append_metrics, clear_run, keep_metrics, locked, preview_path, writing
from gen_engine.train.runs.state import KEPT, RunState
from gen_engine.train.watch.hold_out import hold_out
from gen_engine.train.watch.hook import WatchMetric
from gen_engine.train.watch.observer import Observer

Stop = Callable[[], "int | None"]
"""Called after every step: a signal's number to save and stop, or None."""


def run_training(
    config: TrainConfig,
    data: ImageData,
    run_dir: Path,
    *,
    resume: bool = True,
    on_event: OnEvent = lambda event: None,
    stop: Stop = lambda: None,
    metrics: Sequence[WatchMetric] = (),
) -> CheckpointInfo:
    """Train to `config.epochs` in run_dir, continuing what is there if `resume`, and return what came out.

    Raises DataError and ConfigError before the first step, PlanMismatch and CheckpointError on a resume that
    cannot be, BackendError when memory runs out, TrainingDiverged, and TrainingInterrupted once `stop` returns a
    signal and the state is saved. Whatever is raised, OutputError from a full disk included, the last checkpoint is
    complete.

    In a group of processes (`gen_engine.train.parallel`) all call this: process 0 writes, the others read.
    """
    data, held_out = hold_out(data, config.watch_options.hold_out, config.seed)
    check_data(config, data)
    check_fits(count_parameters(config.model), config.device)
    check_alike(config, data)
    first = collectives.is_first()
    with locked(run_dir) if first else nullcontext(), deterministic(config.device), _memory_errors(config):
        source = None
        if config.private:
            with writing(run_dir):
                source = open_source(run_dir, config, data, resume=resume, trained=has_checkpoint(run_dir))
            data = withheld(data)
        trainer = Trainer(config, data, run_dir, on_event, stop, source)
        if first:
            trainer.observer = Observer(trainer.state, data, held_out, run_dir, on_event, metrics)
            trainer.take_up(resume=resume)
        collectives.wait()  # the others read what the first one has checked
        if not first:
            trainer.take_up(resume=resume)
        check_same_place(trainer.state.step, run_dir)
        trainer.skip_spent()
        trainer.run()
        collectives.wait()  # for the last checkpoint
    return load_generator(run_dir)[1]


def check_data(config: TrainConfig, data: ImageData) -> None:
    """DataError or ConfigError when this model cannot train on this data."""
    model = config.model
    if model.num_classes:
        check_labels_given(data)
        if model.num_classes != data.num_classes:
            raise ConfigError(f"the model has {model.num_classes} classes, {data.name} has {data.num_classes}")
        check_every_class(data)
    count, height, width, channels = data.images_NHWC.shape
    if (channels, height, width) != model.image_shape:
        raise ConfigError(
            f"{data.name} has images of {height}×{width}×{channels}, "
            f"the model makes {model.image_size}×{model.image_size}×{model.channels}"
        )
    if count < config.batch:
        raise ConfigError(f"batch {config.batch} is more than the {count} images there are: use --batch {count}")


@contextmanager
def _memory_errors(config: TrainConfig) -> Iterator[None]:
    """Turn an allocation that failed into BackendError with what makes it smaller."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not out_of_memory:
            raise
        raise BackendError(
            f"{config.device} ran out of memory with batch {config.batch}, width {config.model.width}, hidden "
            f"{config.model.hidden}: lower --batch, --width or --hidden. The last checkpoint, if any, is complete."
        ) from error


class Trainer:
    """One run: its state, its data, and where it writes."""

    def __init__(
        self,
        config: TrainConfig,
        data: ImageData,
        run_dir: Path,
        on_event: OnEvent,
        stop: Stop,
        source: Source | None = None,
    ) -> None:
        self.config, self.data, self.run_dir = config, data, run_dir
        self.on_event, self.stop = on_event, stop
        self.source = source
        self.state = RunState(config, source)
        self.observer: Observer | None = None
        self.rows = Rows(data, config.device, labelled=config.model.num_classes > 0)
        self.steps_per_epoch = len(self.rows) // config.batch
        self.saved_at = self.fitted_at = -1
        self.first = collectives.is_first()

    @property
    def epoch(self) -> int:
        """Whole epochs taken."""
        return self.state.step // self.steps_per_epoch

    def take_up(self, *, resume: bool) -> None:
        """Continue the run in the directory if there is one, or remove it; nothing is removed but by process 0."""
        if not has_checkpoint(self.run_dir):
            return
        if resume:
            self.restore(load_checkpoint(self.run_dir))
        elif self.first:
            self.on_event(Notice(text=f"--no-resume: the run in {self.run_dir} is replaced"))
            clear_run(self.run_dir)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot; PlanMismatch when configuration or data differ, with both values."""
        record = snapshot.record
        check_resumable(record.config, self.config)
        self._check_same_data(record.data.name, record.data.digest)
        self._check_same_means(snapshot)
        try:
            self.state.load(snapshot)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.run_dir} does not fit its config: {error}. Use --no-resume to start over."
            ) from error
        if self.first:
            keep_metrics(self.run_dir, self.epoch)
        if self.observer is not None:
            self.observer.resume()
        self.on_event(Notice(text=f"resuming after step {self.state.step} (epoch {self.epoch})"))
        environment = (
            ("threads", record.threads, torch.get_num_threads()),
            ("processes", record.processes, collectives.size()),
            ("torch", record.torch, torch.__version__),
        )
        for what, before, now in environment:
            if before not in (now, None):
                text = f"the run had {what} {before}, now {now}: it continues, but not bit for bit"
                self.on_event(Notice(text=text))

    def skip_spent(self) -> None:
        """Go on behind the steps that a private GAN took on its data, those included that a kill has lost."""
        if not isinstance(self.source, SampledData):
            return
        ledger, step = self.source.spending.ledger, self.state.step
        if ledger.spent < step:
            raise PlanMismatch(
                f"the checkpoint in {self.run_dir} has taken {step:,} steps, and the ledger in "
                f"{self.run_dir / 'privacy'} counts {ledger.spent:,}: it is an older copy. Put that of the run back, "
                f"or use another --out, and add up the ε of both"
            )
        if ledger.spent > step:
            self.state.step = ledger.spent
            lost = f"{ledger.spent - step:,} of {ledger.plan.steps:,} steps on the data were spent and lost"
            self.on_event(Notice(text=f"{lost} when the run was killed; it continues after step {ledger.spent:,}"))

    def run(self) -> None:
        """From the current step to the end of the last epoch."""
        total = self.config.epochs * self.steps_per_epoch
        self.on_event(
            RunStarted(
                step=self.state.step,
                steps_per_epoch=self.steps_per_epoch,
                steps_total=total,
                batch=self.config.batch,
                parameters=sum(p.numel() for p in self.state.generator.parameters()),
            )
        )
        while self.state.step < total:
            self._run_epoch()

    def _run_epoch(self) -> None:
        """The rest of the current epoch; a stop on its last step still gets its metrics and preview."""
        order_N = data_order(self.config.seed, self.epoch, len(self.rows))
        batch = self.config.batch
        started, first = time.perf_counter(), self.state.step
        signum = None
        for position in range(first % self.steps_per_epoch, self.steps_per_epoch):
            self._one_step(order_N[position * batch : (position + 1) * batch])
            signum = collectives.agree(self.stop())
            if signum is not None and position + 1 < self.steps_per_epoch:
                self._interrupted(signum)
        seconds = time.perf_counter() - started
        with writing(self.run_dir):
            self._finish_epoch((self.state.step - first) * batch / seconds)
        if signum is not None and self.epoch < self.config.epochs:
            self._interrupted(signum)

    def _one_step(self, indices_B: NDArray[np.int64]) -> None:
        own = collectives.share(torch.from_numpy(indices_B), len(indices_B), self.config.accumulate).numpy()
        images_BCHW = from_levels(self.rows.images(own).to(self.config.device).float())
        labels_B = self.rows.labels(own)
        labels_B = None if labels_B is None else labels_B.to(self.config.device)
        if self.config.channels_last:
            images_BCHW = images_BCHW.to(memory_format=torch.channels_last)
        self.state.take_step.begin(self.state.step, self.config.epochs * self.steps_per_epoch)
        losses = self.state.take_step(images_BCHW, labels_B, self.state.rng)
        self.state.step += 1
        if all(math.isfinite(value) for value in losses.values()):
            self.state.add_good(losses)
        else:
            self._left_out(losses)
        self.on_event(StepDone(step=self.state.step, losses=losses, samples=len(indices_B)))

    def _left_out(self, losses: dict[str, float]) -> None:
        state = self.state
        state.add_bad()
        self.on_event(StepSkipped(step=state.step, losses=losses, in_a_row=state.bad_in_a_row))
        if state.bad_in_a_row >= self.config.max_bad_steps:
            named = ", ".join(f"{name} = {value}" for name, value in losses.items())
            raise TrainingDiverged(
                f"training diverged: {state.bad_in_a_row} steps in a row, up to step {state.step}, had losses or "
                f"gradients that are not finite ({named}). The last checkpoint, if any, is complete; "
                f"use a lower --lr or --precision fp32."
            )

    def _finish_epoch(self, samples_per_s: float) -> None:
        metrics = self.state.close_epoch(self.epoch, samples_per_s)
        last = self.epoch == self.config.epochs
        saves = self.epoch % self.config.checkpoint_every == 0 or last
        if saves:
            check_same_weights(self.state.digest(), self.state.step)
        if not self.first:
            return
        line = metrics if self.observer is None else self.observer.look(self.epoch)
        append_metrics(self.run_dir, line)
        self.on_event(EpochDone(metrics=metrics))
        if self.config.preview_every and (self.epoch % self.config.preview_every == 0 or last):
            self._fit_prior()
            path = preview_path(self.run_dir, self.epoch)
            write_preview(self.state.averaged_generator, path, torch.device(self.config.device))
            self.on_event(Saved(what="preview", path=path))
        if saves:
            self._save()
        if self.observer is not None:
            self.observer.keep(self.epoch, line)

    def _interrupted(self, signum: int) -> None:
        if self.first and self.saved_at != self.state.step:
            with writing(self.run_dir):
                self._save()
        collectives.wait()  # a process that ends while another one saves may be taken for a failure
        kind = TrainingTerminated if signum == signal.SIGTERM else TrainingInterrupted
        raise kind(f"interrupted after step {self.state.step}, saved in {self.run_dir}: the same command continues")

    def _save(self) -> None:
        self._fit_prior()
        if isinstance(self.source, SampledData):
            self.source.spending.settle(self.state.step)
        path = save_checkpoint(self.run_dir, self.state.snapshot(self.epoch, self.data))
        self.saved_at = self.state.step
        self.on_event(Saved(what="checkpoint", path=path))

    def _fit_prior(self) -> None:
        """Fit the generator's prior, if it has one, to the encoder as it is now."""
        if self.fitted_at != self.state.step:
            fit_prior(self.state, self.rows)
            self.fitted_at = self.state.step

    def _check_same_data(self, name: str, digest: str) -> None:
        if digest != self.data.digest:
            raise PlanMismatch(
                f"the run in {self.run_dir} was trained on {name} (SHA-256 {digest[:16]}…), this data is "
                f"{self.data.name} ({self.data.digest[:16]}…): use the same data, or another --out"
            )

    def _check_same_means(self, snapshot: Snapshot) -> None:
        saved = snapshot.tensors["auxiliary"].get(f"{KEPT}release")
        if self.source is not None and (saved is None or bytes(saved.tolist()).hex() != self.source.digest):
            what = "from another ledger than that" if self.config.private_gan else "on other noisy means than those"
            raise PlanMismatch(
                f"the checkpoint in {self.run_dir} was trained {what} in "
                f"{self.run_dir / 'privacy'}: put the folder of the run back, or use --no-resume"
            )


def data_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of the images in one epoch: int64 [count], a function of (seed, epoch) alone."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)
