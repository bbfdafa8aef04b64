"""From options to a run: read the data, resolve what was left open, train."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gen_engine.engine.errors import OutputError
from gen_engine.train.config import resolve_config
from gen_engine.train.data import read_data
from gen_engine.train.device import set_threads
from gen_engine.train.options import TrainOptions
from gen_engine.train.runs.checkpoint import CheckpointInfo
from gen_engine.train.runs.events import ConfigResolved, DataRead, OnEvent
from gen_engine.train.runs.loop import Stop, run_training
from gen_engine.train.runs.run_dir import CACHE
from gen_engine.train.watch.hook import WatchMetric


def start(
    options: TrainOptions,
    out: str | os.PathLike[str],
    *,
    resume: bool,
    on_event: OnEvent,
    stop: Stop,
    metrics: Sequence[WatchMetric] = (),
) -> CheckpointInfo:
    """Train as `gen_engine.train.train` documents."""
    set_threads(options.threads)
    data = read_data(options.data, options if options.cache is not None else _own_cache(options, Path(out)))
    on_event(DataRead(name=data.name, images=len(data.images_NHWC), classes=data.num_classes, notes=data.notes))
    config = resolve_config(options, data)
    on_event(ConfigResolved(config=config))
    return run_training(config, data, Path(out), resume=resume, on_event=on_event, stop=stop, metrics=metrics)


def _own_cache(options: TrainOptions, out: Path) -> TrainOptions:
    """The options with the run's own cache; OutputError when a link has its place."""
    cache = out / CACHE
    if cache.is_symlink():
        raise OutputError(f"{cache} is a symbolic link: remove it, or use another --cache")
    return replace(options, cache=str(cache))
