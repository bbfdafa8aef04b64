"""From options to a run: read the data, resolve what was left open, train, in one process or as one of several."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from gen_engine.engine.errors import OutputError, PlanMismatch
from gen_engine.train.config import resolve_config
from gen_engine.train.data import ImageData, read_data
from gen_engine.train.device import resolve_device, set_threads
from gen_engine.train.errors import ConfigError
from gen_engine.train.options import TrainOptions
from gen_engine.train.parallel import collectives
from gen_engine.train.parallel.crew import Crew
from gen_engine.train.parallel.group import joined
from gen_engine.train.parallel.member import torchrun_member
from gen_engine.train.runs.checkpoint import CheckpointInfo
from gen_engine.train.runs.events import ConfigResolved, DataRead, OnEvent
from gen_engine.train.runs.loop import Stop, run_training
from gen_engine.train.runs.run_dir import CACHE, TABLE
from gen_engine.train.watch.hook import WatchMetric

Join = Callable[[str], AbstractContextManager[None]]
"""A device's name to a context in which the other processes of the run are there."""


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
    if (Path(out) / TABLE).exists():
        raise PlanMismatch(f"{out} holds a model of a table: use another --out")
    member = torchrun_member()
    if member is not None:
        if options.processes not in (1, member.size):
            raise ConfigError(
                f"processes is {options.processes}, torchrun started {member.size}: leave --processes out"
            )
        return train_as(
            replace(options, processes=member.size),
            out,
            resume=resume,
            join=lambda device: joined(member, device),
            on_event=on_event,
            stop=stop,
            metrics=metrics,
        )
    if options.processes == 1:
        return train_as(options, out, resume=resume, on_event=on_event, stop=stop, metrics=metrics)
    if options.threads is None:
        options = replace(options, threads=max(1, torch.get_num_threads() // options.processes))
    with Crew(options, out, resume=resume) as crew:
        return train_as(options, out, resume=resume, join=crew.join, on_event=on_event, stop=stop, metrics=metrics)


def train_as(
    options: TrainOptions,
    out: str | os.PathLike[str],
    *,
    resume: bool,
    join: Join = lambda device: nullcontext(),
    on_event: OnEvent = lambda event: None,
    stop: Stop = lambda: None,
    metrics: Sequence[WatchMetric] = (),
) -> CheckpointInfo:
    """Train as one process of a run, or as its only one.

    Args:
        options: as of `gen_engine.train.train`, like the arguments below but for one.
        out: the run's directory, which every process can read.
        resume: continue the run there.
        join: entered before anything is read: be in the group of the run's processes.
        on_event: called with what happens in this process.
        stop: called after every step; a signal that any process has stops all.
        metrics: figures for the watch.
    """
    set_threads(options.threads)
    with join(resolve_device(options.device)):
        data = _read(options, Path(out))
        on_event(DataRead(name=data.name, images=len(data.images_NHWC), classes=data.num_classes, notes=data.notes))
        config = resolve_config(options, data)
        on_event(ConfigResolved(config=config))
        return run_training(config, data, Path(out), resume=resume, on_event=on_event, stop=stop, metrics=metrics)


def _read(options: TrainOptions, out: Path) -> ImageData:
    """The data; process 0 reads them before the others, which use the cache that it may have filled."""
    first = collectives.is_first()
    if not first:
        collectives.wait()
    data = read_data(options.data, options if options.cache is not None else _own_cache(options, out))
    if first:
        collectives.wait()
    return data


def _own_cache(options: TrainOptions, out: Path) -> TrainOptions:
    """The options with the run's own cache; OutputError when a link has its place."""
    cache = out / CACHE
    if cache.is_symlink():
        raise OutputError(f"{cache} is a symbolic link: remove it, or use another --cache")
    return replace(options, cache=str(cache))
