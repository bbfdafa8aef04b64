"""Training: image data in, a checkpoint with a generator out.

Data readers (`gen_engine.train.data`), model families (`gen_engine.train.models`), losses, the training loop and the
checkpoint format. The export stage needs `gen_engine.train.runs.checkpoint.load_generator` and nothing else from here.

::

    from gen_engine.train import train

    info = train(out="runs/photos", data="photos/", model="conv-vae", image_size=64, epochs=50)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gen_engine.train.options import TrainOptions
from gen_engine.train.tables.options import OPTIONS, TableOptions

if TYPE_CHECKING:
    from gen_engine.train.runs.checkpoint import CheckpointInfo
    from gen_engine.train.runs.events import Event
    from gen_engine.train.tables.start import TableInfo
    from gen_engine.train.watch.hook import WatchMetric

__all__ = ["TableOptions", "TrainOptions", "train", "train_table"]


def train(
    options: TrainOptions | None = None,
    *,
    out: str | os.PathLike[str],
    resume: bool = True,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: Callable[[], int | None] = lambda: None,
    metrics: Sequence[WatchMetric] = (),
    **fields: Any,
) -> CheckpointInfo:
    """Train a generator on images, as `gen-engine train` does.

    Args:
        options: what to train and how; or give its fields as keywords.
        out: the run's directory.
        resume: continue the run that `out` holds; False replaces it.
        on_event: called with what happens (`gen_engine.train.runs.events`), from this thread.
        stop: called after every step; a signal's number saves the state and stops the run.
        metrics: figures of the caller's own, which a watched run computes at every look (`watch=True`); one of them
            may be `keep_best`.
        fields: fields of `TrainOptions`, only without `options`.

    Returns:
        The newest checkpoint's description.

    Raises:
        TypeError: an unknown field, or options and fields together.
        ConfigError, DataError, CheckpointError, BackendUnavailable, BackendError, OutputError, TrainingDiverged,
            TrainingInterrupted: see `gen_engine.train.errors`.
    """
    if options is not None and fields:
        raise TypeError(f"options and {', '.join(fields)}: give options, or its fields as keywords")
    from gen_engine.train.runs.start import start  # torch is imported when training begins

    options = TrainOptions(**fields) if options is None else options
    return start(options, out, resume=resume, on_event=on_event, stop=stop, metrics=metrics)


def train_table(
    options: TableOptions | None = None,
    *,
    out: str | os.PathLike[str],
    resume: bool = True,
    on_event: Callable[[Event], None] = lambda event: None,
    **fields: Any,
) -> TableInfo:
    """Fit a model to a table, as `gen-engine train --model trees` does.

    Args:
        options: what to fit and how; or give its fields as keywords.
        out: the run's directory.
        resume: leave a model of the same table and options as it is; False replaces whatever is there.
        on_event: called with what happens (`gen_engine.train.runs.events`), from this thread.
        fields: fields of the options of `model` (default trees, `TreesOptions`), only without `options`.

    Raises:
        TypeError: an unknown field, or options and fields together.
        ConfigError, DataError, CheckpointError, BackendUnavailable, OutputError: see `gen_engine.train.errors`.
    """
    if options is not None and fields:
        raise TypeError(f"options and {', '.join(fields)}: give options, or its fields as keywords")
    from gen_engine.train.tables.start import start_table

    if options is None:
        fields = {"model": "trees"} | fields
        options = OPTIONS.get(fields["model"], TableOptions)(**fields)
    return start_table(options, out, resume=resume, on_event=on_event)
