"""What a run does after each epoch besides training: looks, alarms, the best checkpoint, TensorBoard.

The history of a run is its metrics.jsonl: a resumed run reads from there what it saw before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import CheckpointError, ConfigError
from gen_engine.train.models import family_of
from gen_engine.train.runs.checkpoint import best_record, save_best
from gen_engine.train.runs.events import Alarmed, Notice, OnEvent, Saved
from gen_engine.train.runs.run_dir import preview_path, read_metrics
from gen_engine.train.runs.state import RunState
from gen_engine.train.watch.hook import Better, Rows, Watched, WatchMetric
from gen_engine.train.watch.look import Images, Networks, look, norm, own_randomness
from gen_engine.train.watch.rules import OBJECTIVES, Limits, Look, alarms
from gen_engine.train.watch.tensorboard import append_events, rewrite_events
from gen_engine.train.watch.yardstick import Yardstick, measure_real

BETTER: dict[str, Better] = {"frechet": "lower", "frechet_worst_class": "lower", "diversity_worst_class": "higher"}
"""Figures that can choose the best checkpoint, and which values are better."""

NONE = "none"
"""The value of `keep_best` that keeps none."""


class Observer:
    """Looks at a run's state at the end of its epochs; changes only its metrics and alarms."""

    def __init__(
        self,
        state: RunState,
        data: ImageData,
        held_out: ImageData | None,
        run_dir: Path,
        on_event: OnEvent,
        metrics: Sequence[WatchMetric] = (),
    ) -> None:
        self.config: TrainConfig = state.config
        self.state, self.data, self.held_out = state, data, held_out
        self.run_dir, self.on_event, self.metrics = run_dir, on_event, metrics
        self.better = dict(BETTER)
        options = self.config.watch_options
        if options.keep_best.partition(".")[0] not in {*BETTER, NONE, *(metric.name for metric in metrics)}:
            self._refuse_keep_best([*BETTER, *(f"{metric.name}.FIGURE" for metric in metrics), NONE])
        self.yardstick: Yardstick | None = None
        self.looks: list[Look] = []
        self.kept: float | None = None
        if options.watch:
            self._open()

    def _open(self) -> None:
        conditional = self.config.model.num_classes > 0
        self.yardstick = measure_real(self.data, conditional=conditional)
        if self.yardstick is None:
            self.on_event(
                Notice(text=f"--watch: {self.data.name} has too few different images to compare samples with")
            )
            return
        state = self.state
        self.networks = Networks(
            averaged=state.averaged_generator,
            live=state.generator,
            discriminator=state.auxiliary if family_of(self.config.model.family).kind == "gan" else None,
            auxiliary=state.auxiliary,
        )
        self.limits = Limits(
            copies_floor=self.yardstick.floors["copies"],
            scale=self.yardstick.scale,
            norms={"norm_generator": norm(state.generator), "norm_auxiliary": norm(state.auxiliary)},
            held_out=self.held_out is not None,
        )

    def resume(self) -> None:
        """Take up what the run had seen when its checkpoint was written."""
        lines = read_metrics(self.run_dir)
        self.looks = [_floats(line) for line in lines if "diversity" in line]
        if self.config.watch_options.tensorboard:
            rewrite_events(self.run_dir, lines)
        try:
            best = best_record(self.run_dir)
        except CheckpointError as error:
            self.on_event(Notice(text=f"{error} The next epoch is kept as the best one."))
            return
        self.kept = None if best is None else best.metrics.get(self.config.watch_options.keep_best)

    def look(self, epoch: int) -> dict[str, Any]:
        """Add the epoch's figures to the state's metrics, its alarms to the state; return the line of metrics.jsonl."""
        state = self.state
        last = epoch == self.config.epochs
        if self.yardstick is None or not (epoch % self.config.watch_options.watch_every == 0 or last):
            return state.metrics
        losses = [name for name in OBJECTIVES if name in state.metrics]
        figures, images_SHWC = look(self.networks, self.yardstick, self.held_out)
        state.metrics |= figures | self._of_caller(images_SHWC, self.yardstick)
        self.looks.append(_floats(state.metrics))
        raised = tuple(alarms(self.looks, self.limits, losses))
        state.alarms += raised
        for alarm in raised:
            self.on_event(Alarmed(alarm=alarm))
        return state.metrics | ({"alarms": [alarm.to_json() for alarm in raised]} if raised else {})

    def _of_caller(self, images_SHWC: Images, yardstick: Yardstick) -> dict[str, float]:
        """The caller's own figures; ConfigError when `keep_best` is to be one of them and is not."""
        labels_R, held = yardstick.labels_R, self.held_out
        test = Rows(images_NHWC=yardstick.others_RHWC, labels_N=labels_R)
        if held is not None:
            test = Rows(images_NHWC=held.images_NHWC, labels_N=None if labels_R is None else held.labels)
        watched = Watched(
            samples=Rows(images_NHWC=images_SHWC, labels_N=labels_R),
            train=Rows(images_NHWC=yardstick.images_RHWC, labels_N=labels_R),
            test=test,
            class_names=None if labels_R is None else self.data.class_names,
        )
        figures: dict[str, float] = {}
        for metric in self.metrics:
            with own_randomness(self.config.device):
                found = metric.measure(watched)
            figures |= {f"{metric.name}.{name}": float(one.value) for name, one in found.items()}
            self.better |= {f"{metric.name}.{name}": one.better for name, one in found.items()}
        if self.config.watch_options.keep_best not in {*self.better, NONE}:
            self._refuse_keep_best([*self.better, NONE])
        return figures

    def _refuse_keep_best(self, choices: Sequence[str]) -> NoReturn:
        raise ConfigError(f"keep-best is {self.config.watch_options.keep_best!r}: use one of {', '.join(choices)}")

    def keep(self, epoch: int, line: dict[str, Any]) -> None:
        """Log the epoch, and keep its checkpoint if it is the best so far."""
        if self.config.watch_options.tensorboard:
            append_events(self.run_dir, line, preview_path(self.run_dir, epoch))
        name = self.config.watch_options.keep_best
        value = line.get(name)
        if value is None or value != value or not self._is_better(name, value):
            return
        path = save_best(self.run_dir, self.state.snapshot(epoch, self.data))
        self.kept = value
        self.on_event(Saved(what="best checkpoint", path=path))

    def _is_better(self, name: str, value: float) -> bool:
        if self.kept is None:
            return True
        return value < self.kept if self.better[name] == "lower" else value > self.kept


def _floats(line: dict[str, Any]) -> Look:
    return {name: value for name, value in line.items() if isinstance(value, int | float) or value is None}
