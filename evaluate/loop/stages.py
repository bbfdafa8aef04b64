"""The stages of a round: augment, train, export, sample, evaluate. Each continues where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gen_engine.engine.errors import BackendError, RecordError, RequestError
from gen_engine.engine.identity.bundle import Bundle, read_bundle
from gen_engine.engine.plan.filtering import DISCRIMINATOR
from gen_engine.engine.run.job import open_job
from gen_engine.engine.run.write import write_dataset
from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.loop.data import LoopData
from gen_engine.evaluate.loop.rounds import Judged, Round, best_of, directory, write_round
from gen_engine.evaluate.loop.rows import training_rows
from gen_engine.evaluate.loop.spec import Goal, LoopSpec, Move, Settings, sample_request, train_options
from gen_engine.evaluate.report import document
from gen_engine.evaluate.report.files import write_report
from gen_engine.evaluate.report.report import Report
from gen_engine.evaluate.run import evaluate
from gen_engine.export.checkpoint import export_checkpoint
from gen_engine.train import train
from gen_engine.train.errors import TrainingDiverged
from gen_engine.train.runs.events import EpochDone

BUNDLE, DATASET, RUN, REPORT = "generator.gen", "dataset", "run", "report"


@dataclass
class Watcher:
    """Who hears of a loop: the stages log through it, and training asks it whether to stop."""

    log: Callable[[str], None] = field(default=lambda text: None)
    stop: Callable[[], int | None] = field(default=lambda: None)

    def started(self, total: int, done: int, workers: int) -> None:
        """Sampling begins."""

    def rendered(self, samples: int) -> None:
        """More samples."""

    def committed(self, samples: int, size: int) -> None:
        """A shard."""

    def message(self, text: str) -> None:
        """A message of a stage."""
        self.log(text)


def do_round(
    spec: LoopSpec,
    first: Settings,
    out: Path,
    data: LoopData,
    rounds: Sequence[Round],
    move: Move | None,
    watcher: Watcher,
) -> Round:
    """Do the next round and record it, or continue it; `first` are the settings of the first one.

    Raises:
        TrainingInterrupted: `watcher.stop` returned a signal; the same call continues.
        EngineError: what no other settings would avoid, such as a full disk or a figure that is not computed.
    """
    started = time.monotonic()
    best = best_of(rounds)
    settings = dict(first if best is None else best.settings)
    if move is not None:
        settings[move.setting] = move.value
    number = len(rounds) + 1
    same = next((one for one in rounds if one.generator and trains_alike(one.settings, settings)), None)
    trained_in = number if same is None else same.trained_in
    watcher.log(f"round {number}: {'the settings as given' if move is None else move}")
    here = directory(out, number)
    here.mkdir(parents=True, exist_ok=True)
    judged, failure, generator = None, None, None
    try:
        bundle = make_bundle(settings, directory(out, trained_in), data, watcher)
        generator = bundle.generator_id
        judged = judge(spec.goal, make_dataset(settings, bundle, here, watcher), data, here, watcher)
    except (TrainingDiverged, BackendError) as error:  # another learning rate, another batch: the loop goes on
        failure = str(error)
    before = None if best is None else best.judged
    kept = judged is not None and (before is None or judged.gain_over(before) > spec.goal.gain)
    done = Round(
        number=number,
        move=move,
        settings=settings,
        judged=judged,
        failure=failure,
        kept=kept,
        trained_in=trained_in,
        generator=generator,
        seconds=round(time.monotonic() - started, 3),
    )
    write_round(out, done)
    return done


def trains_alike(one: Settings, other: Settings) -> bool:
    """Whether the generators of these settings are the same."""
    before, now = (
        {name: value for name, value in some.items() if not name.startswith("sample.")} for some in (one, other)
    )
    return before == now


def make_bundle(settings: Settings, here: Path, data: LoopData, watcher: Watcher) -> Bundle:
    """Augment, train and export, unless it was done."""
    if (here / BUNDLE).exists():
        return read_bundle(here / BUNDLE)

    def on_event(event: object) -> None:
        if isinstance(event, EpochDone):
            watcher.log("  ".join(f"{name} {value:.4g}" for name, value in event.metrics.items() if value is not None))

    rows = training_rows(settings, here, data, watcher)
    train(train_options(settings, str(rows)), out=here / RUN, on_event=on_event, stop=watcher.stop)
    by_ratio = sample_request(settings).filtering.filter == DISCRIMINATOR
    return export_checkpoint(here / RUN, here / BUNDLE, with_discriminator=by_ratio)


def make_dataset(settings: Settings, bundle: Bundle, here: Path, watcher: Watcher) -> Path:
    """Sample, or continue to."""
    job = open_job(sample_request(settings), bundle, watcher.message)
    write_dataset(job, here / DATASET, workers=None, monitor=watcher)
    return here / DATASET


def judge(goal: Goal, dataset: Path, data: LoopData, here: Path, watcher: Watcher) -> Judged:
    """Evaluate on the validation rows, and return the goal's figure.

    Raises:
        RequestError: the report has no such figure, or it has no value; with the reason, or the figures there are.
    """
    path = here / REPORT / "report.json"
    if path.exists():
        report = document.read(path)
    else:
        report = evaluate(
            dataset,
            data.train,
            data.validation,
            metrics=goal.metrics,
            features=goal.features,
            budget=goal.budget,
            log=watcher.log,
        )
        write_report(report, here / REPORT)
    return judged_by(goal, report)


def judged_by(goal: Goal, report: Report) -> Judged:
    """The goal's figure in a report; RequestError as :func:`judge`."""
    figure = _figure(goal, report)
    assert figure.value is not None
    interval = figure.interval
    low, high = (figure.value, figure.value) if interval is None else (interval.low, interval.high)
    return Judged(value=figure.value, low=low, high=high, better=figure.better)


def _figure(goal: Goal, report: Report) -> Figure:
    whole = [one for one in report.figures if one.group is None]
    found = next((one for one in whole if one.name == goal.figure), None)
    if found is None:
        names = ", ".join(sorted({one.name for one in whole if one.value is not None}))
        raise RequestError(f"goal: no figure is named {goal.figure!r}; metrics {', '.join(goal.metrics)} give {names}")
    if found.value is None:
        raise RequestError(f"goal: {goal.figure} was not computed: {found.not_computed}")
    if found.better == "equal":
        raise RequestError(
            f"goal: {goal.figure} is best at its ceiling; a loop needs one that is better higher or lower"
        )
    return found


def read_report(here: Path) -> Report:
    """The report of a finished round; RecordError when it is missing or damaged."""
    path = here / REPORT / "report.json"
    if not path.exists():
        raise RecordError(f"{path} is missing: remove {here}, and that round is done again")
    return document.read(path)
