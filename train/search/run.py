"""Run a search: trials until their number or the hours are reached."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_engine.engine.errors import OutputError, RecordError
from gen_engine.train.data import ImageData, read_data
from gen_engine.train.device import set_threads
from gen_engine.train.errors import ConfigError, SearchFailed, TrainingInterrupted
from gen_engine.train.models import ModelConfig, family_of
from gen_engine.train.objectives.losses import LOSSES
from gen_engine.train.options import NetworkOptions, TrainOptions, flag_name
from gen_engine.train.parallel.member import torchrun_member
from gen_engine.train.runs.checkpoint import has_checkpoint
from gen_engine.train.runs.events import DataRead, Notice, OnEvent
from gen_engine.train.runs.loop import Stop
from gen_engine.train.runs.run_dir import locked, writing
from gen_engine.train.search.held_out import cut, held_out_rows
from gen_engine.train.search.outputs import BEST, failures, write_outputs
from gen_engine.train.search.record import RECORD, SearchRecord, TrialRecord, options_of, read_record, write_record
from gen_engine.train.search.space import SearchSpace, check_ends
from gen_engine.train.search.study import JOURNAL, PRUNING, Journal
from gen_engine.train.search.trial import Objective, Trial

TRIALS = "trials"


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """How long to search."""

    trials: int
    """Trials in all, those of earlier calls included."""

    hours: float | None = None
    """Hours that trials may take together, over all calls: none begins after them."""

    def __post_init__(self) -> None:
        if not 1 <= self.trials <= 1_000_000:
            raise ConfigError(f"search is {self.trials}: it must be at least 1 trial")
        if self.hours is not None and not 0.0 < self.hours < float("inf"):
            raise ConfigError(f"search-hours is {self.hours}: it must be more than 0")


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found so far."""

    record: SearchRecord
    ended: str
    """Why there are no more trials."""

    best: TrialRecord
    recipe: Path
    """RUN/best.toml."""

    @property
    def run_dir(self) -> Path:
        """The best trial's run directory, whose checkpoint can be exported."""
        return trial_dir(self.recipe.parent, self.best.number)


def trial_dir(out: Path, number: int) -> Path:
    """RUN/trials/NNNN."""
    return out / TRIALS / f"{number:04d}"


def run_search(
    base: TrainOptions,
    space: SearchSpace,
    request: SearchRequest,
    objective: Objective,
    out: Path,
    *,
    on_event: OnEvent = lambda event: None,
    stop: Stop = lambda: None,
) -> SearchResult:
    """Search for the values that train the best generator, or continue to.

    A part of the training data is held out, at most 5,000 rows and a fifth. Each trial trains on the rest by
    `gen_engine.train.train` in RUN/trials/NNNN, and is measured on the held-out rows at every checkpoint. What is
    finished is never repeated; a trial that was stopped continues from its checkpoint. RUN/search.json, search.md and
    best.toml are written after every trial.

    Args:
        base: the recipe; its values of searched options are not used.
        space: what is searched.
        request: how long.
        objective: what trials are judged by.
        out: the search's directory.
        on_event: called with what happens, of each trial's training as well.
        stop: as of `gen_engine.train.train`.

    Raises:
        ConfigError: a range holds a value that its option refuses.
        PlanMismatch: `out` holds another search, or one on other data; with both values.
        TrainingInterrupted: `stop` returned a signal; the same call continues.
        RecordError: the journal is damaged.
        SearchFailed: no trial was trained to the end; with the reason of each.
        DataError, BackendUnavailable, OutputError: as `train` raises them.
    """
    check_ends(space, base)
    if base.dp_epsilon:
        raise ConfigError(
            "--search and --dp-epsilon cannot go together: it chooses among runs by their score on the real images, "
            "outside the noise, so no ε would hold. Search on public data, and train once with --dp-epsilon"
        )
    if torchrun_member() is not None:
        raise ConfigError("--search starts the processes of its trials itself: use --processes N instead of torchrun")
    set_threads(base.threads)
    data = read_data(base.data, base)
    on_event(DataRead(name=data.name, images=len(data.images_NHWC), classes=data.num_classes, notes=data.notes))
    check_networks(space, base, data)
    with locked(out), writing(out):
        search = _Search(base, space, request, objective, data, out, on_event, stop)
        while (ended := search.ending()) is None:
            search.one_trial()
    best = search.record.best
    if best is None:
        reasons = "\n".join(f"  {one}" for one in failures(search.record))
        raise SearchFailed(
            f"{ended}, and no trial was trained to the end:\n{reasons}\nChange the ranges, and use another --out; or "
            f"raise --search for trials with other values."
        )
    return SearchResult(record=search.record, ended=ended, best=best, recipe=out / BEST)


def check_networks(space: SearchSpace, base: TrainOptions, data: ImageData) -> None:
    """ConfigError for a family, a loss or a size in a range that cannot be built; by itself, whatever the others."""
    sizes = {one.name for one in dataclasses.fields(NetworkOptions)}
    for name, one in space.ranges.items():
        for value in one.ends():
            try:
                if name == "model":
                    family_of(str(value))
                elif name == "loss" and value not in LOSSES:
                    raise ConfigError(f"unknown loss {value!r}: use one of {', '.join(LOSSES)}")
                elif name in sizes:
                    shapes: dict[str, Any] = {name: value}
                    ModelConfig(family=base.model, image_size=data.images_NHWC.shape[1], **shapes)
            except ConfigError as error:
                raise ConfigError(f"search: {flag_name(name)} may not be {value}: {error}") from error


class _Search:
    """A search whose directory is locked."""

    def __init__(
        self,
        base: TrainOptions,
        space: SearchSpace,
        request: SearchRequest,
        objective: Objective,
        data: ImageData,
        out: Path,
        on_event: OnEvent,
        stop: Stop,
    ) -> None:
        self.base, self.request, self.objective = base, request, objective
        self.out, self.on_event, self.stop = out, on_event, stop
        held_out = held_out_rows(data.labels, len(data.images_NHWC), base.seed)
        asked = SearchRecord(
            space=space,
            options=options_of(base),
            figure=objective.identity,
            better=objective.better,
            pruning=PRUNING,
            data=data.name,
            data_digest=data.digest,
            rows=len(held_out),
            held_out=int(held_out.sum()),
        )
        self.record = _claim(asked, out)
        self.parts = cut(data, held_out, out)
        self.journal = Journal(out, space, better=objective.better, seed=base.seed)
        lost = len(self.record.trials) - len(self.journal.trials())
        if lost > 0:
            what = f"{out / JOURNAL} lacks {lost} of the trials in {out / RECORD}"
            raise RecordError(f"{what}: restore it, or use another --out")
        on_event(Notice(text=self.parts.note(data.name)))
        on_event(Notice(text=f"figure: {objective.identity}"))
        on_event(Notice(text=f"pruning: {PRUNING}"))
        self.keep()

    def keep(self) -> None:
        """Write what the journal holds."""
        self.record = dataclasses.replace(self.record, trials=tuple(self.journal.trials()))
        write_record(self.out, self.record)
        write_outputs(self.out, self.record, self.base)

    def ending(self) -> str | None:
        """Why no further trial begins or goes on; None if one does."""
        trials = self.record.trials
        finished = sum(one.state != "running" for one in trials)
        if finished >= self.request.trials:
            return f"{finished} trials are finished"
        spent = sum(one.seconds for one in trials) / 3600
        if self.request.hours is not None and spent >= self.request.hours and finished == len(trials):
            return f"the budget of {self.request.hours:g} hours is spent by {finished} trials"
        return None

    def one_trial(self) -> None:
        """Do the next trial, or continue the one that was stopped."""
        one = self.journal.next_trial()
        what = ", ".join(f"{flag_name(name)} {value}" for name, value in one.params.items())
        begins = "continues" if has_checkpoint(trial_dir(self.out, one.number)) else "begins"
        self.on_event(Notice(text=f"trial {one.number} of {self.request.trials} {begins}: {what}"))
        trial = Trial(
            record=one,
            run_dir=trial_dir(self.out, one.number),
            base=dataclasses.replace(self.base, data=str(self.parts.train), value_range=None),
            held_out=self.parts.held_out,
            objective=self.objective,
            journal=self.journal,
            on_event=self.on_event,
            stop=self.stop,
        )
        try:
            done = trial.run()
        except TrainingInterrupted as error:
            self.keep()
            raise type(error)(
                f"trial {one.number} was {error}. {one.number} trials before it are finished; none is repeated"
            ) from None
        self.keep()
        found = done.failure if done.value is None else f"{done.value:.4f}"
        self.on_event(Notice(text=f"trial {done.number} {done.state}: {found}"))


def _claim(asked: SearchRecord, out: Path) -> SearchRecord:
    """The search in a directory, which must be the one that is asked for; recorded if there is none."""
    if (out / RECORD).exists():
        before = read_record(out)
        before.check_same(asked, out)
        return before
    if has_checkpoint(out):
        raise OutputError(f"{out} holds a training run: give the search a directory of its own, by another --out")
    write_record(out, asked)
    return asked
