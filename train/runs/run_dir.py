"""A run directory: who may write it, and what is beside checkpoints: metrics.jsonl, a line per epoch, and previews.

Every entry that a run writes is a directory or regular file of its own; a link in its place is refused by name, since
what it leads to is not the run's.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gen_engine.engine.base.durable import write_file
from gen_engine.engine.base.files import FileRefused, open_regular, read_bounded
from gen_engine.engine.errors import OutputError, OutputLocked

LOCK, METRICS, CHECKPOINTS, PREVIEWS = ".lock", "metrics.jsonl", "checkpoints", "previews"
PRIVACY = "privacy"
"""What a private run measured of its data, with noise; `clear_run` leaves it, since it can be measured only once."""

CACHE = "cache"
"""Where data that are larger than memory are decoded to; `clear_run` leaves it, since it depends on the data alone."""

BEST, TENSORBOARD = "checkpoints-best", "tensorboard"
TABLE = "table"
"""The model of a table: see `gen_engine.train.tables.record`."""

MAX_METRICS = 256 * 2**20
"""Bytes of metrics.jsonl that a resumed run reads: a line per epoch is a few hundred."""


def metrics_path(run_dir: Path) -> Path:
    """RUN/metrics.jsonl."""
    return run_dir / METRICS


def preview_path(run_dir: Path, epoch: int) -> Path:
    """RUN/previews/epoch-NNNN.png."""
    return run_dir / PREVIEWS / f"epoch-{epoch:04d}.png"


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run directory, made if need be, for this process; OutputLocked when another one has it."""
    with writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        for name in (LOCK, METRICS, CHECKPOINTS, PREVIEWS, PRIVACY, CACHE, BEST, TENSORBOARD):
            if (run_dir / name).is_symlink():
                raise OutputError(f"{run_dir / name} is a symbolic link: remove it, or use another --out")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(run_dir / LOCK, flags, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputLocked(
                f"another process is training in {run_dir}: wait for it, or use another --out"
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """Turn a disk's refusal into OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write to {run_dir}: {error.strerror or error}. The last checkpoint there, if any, is complete."
        ) from error


def append_metrics(run_dir: Path, metrics: dict[str, Any]) -> None:
    """One line more."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(metrics_path(run_dir), flags, 0o644), "ab") as file:
        file.write(json.dumps(metrics).encode() + b"\n")


def keep_metrics(run_dir: Path, epoch: int) -> None:
    """Drop what follows this epoch: epochs of a killed run that no checkpoint holds will be trained again."""
    path = metrics_path(run_dir)
    if not path.exists():
        return
    try:
        with open_regular(path, MAX_METRICS, follow_symlinks=False) as file:
            kept = [line for line in file.read().splitlines() if _epoch_of(line) <= epoch]
    except FileRefused as error:
        raise OutputError(f"{error}: remove it, or use another --out") from error
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    write_file(temporary, b"".join(line + b"\n" for line in kept))
    temporary.replace(path)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl, one dict per epoch; none without the file.

    OutputError when it is no regular file or too large.
    """
    path = metrics_path(run_dir)
    if not path.exists():
        return []
    try:
        content = read_bounded(path, MAX_METRICS, follow_symlinks=False)
    except FileRefused as error:
        raise OutputError(f"{error}: remove it, or use another --out") from error
    return [json.loads(line) for line in content.splitlines() if _epoch_of(line) < float("inf")]


def clear_run(run_dir: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    for name in (CHECKPOINTS, PREVIEWS, BEST, TENSORBOARD):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    metrics_path(run_dir).unlink(missing_ok=True)


def _epoch_of(line: bytes) -> float:
    """The line's epoch; a line that a kill cut short, or that is none of ours, counts as after every epoch."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return float("inf")
    epoch = value.get("epoch") if isinstance(value, dict) else None
    return epoch if isinstance(epoch, int | float) else float("inf")
