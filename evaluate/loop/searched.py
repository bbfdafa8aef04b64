"""The search before the first round: which settings of training the loop begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gen_engine.evaluate.loop.data import LoopData
from gen_engine.evaluate.loop.rows import training_rows
from gen_engine.evaluate.loop.spec import LoopSpec, Settings, train_options
from gen_engine.evaluate.loop.stages import Watcher
from gen_engine.evaluate.objective import objective_for
from gen_engine.train.options import flag_name
from gen_engine.train.runs.events import Notice
from gen_engine.train.search.run import run_search

SEARCH: Final = "search"


def first_settings(spec: LoopSpec, out: Path, data: LoopData, watcher: Watcher) -> Settings:
    """Return the settings of the first round: those of the file, with the values that a search found best.

    The search sees the rows that rounds train on, and holds out a part of those. A stopped one continues, and one that
    was finished is read.

    Raises:
        SearchFailed: no trial was trained to the end.
        ConfigError, DataError, PlanMismatch, RecordError, TrainingInterrupted: as of
            :func:`gen_engine.train.search.run.run_search`.
    """
    if spec.search is None:
        return spec.settings

    def on_event(event: object) -> None:
        if isinstance(event, Notice):
            watcher.log(event.text)

    folder = out / SEARCH
    folder.mkdir(exist_ok=True)
    rows = training_rows(spec.settings, folder, data, watcher)
    base = train_options(spec.settings, str(rows))
    result = run_search(
        base,
        spec.search.space,
        spec.search.request,
        objective_for(base.conditional),
        folder / "trials",
        on_event=on_event,
        stop=watcher.stop,
    )
    return {**spec.settings, **{f"train.{flag_name(name)}": value for name, value in result.best.params.items()}}
