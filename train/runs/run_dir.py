"""A run directory: who may write it, and what lies beside checkpoints: metrics.jsonl, a line an epoch, and previews."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gen_engine.engine.base.files import LISTING, read_text
from gen_engine.train.errors import OutputRefused


def metrics_path(run_dir: Path) -> Path:
    """RUN/metrics.jsonl."""
    return run_dir / "metrics.jsonl"


def preview_path(run_dir: Path, epoch: int) -> Path:
    """RUN/previews/epoch-NNNN.png."""
    return run_dir / "previews" / f"epoch-{epoch:04d}.png"


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run directory, made if need be, for this process; OutputRefused when another one has it."""
    with writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / ".lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputRefused(
                f"another process is training in {run_dir}: wait for it, or use another --out"
            ) from error
        yield


@contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """Turn a disk's refusal into OutputRefused."""
    try:
        yield
    except OSError as error:
        raise OutputRefused(
            f"cannot write to {run_dir}: {error.strerror or error}. The last checkpoint there, if any, is whole."
        ) from error


def append_metrics(run_dir: Path, metrics: dict[str, Any]) -> None:
    """One line more."""
    with metrics_path(run_dir).open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def keep_metrics(run_dir: Path, epoch: int) -> None:
    """Drop what follows this epoch: a killed run's epochs that no checkpoint holds will be taken again."""
    path = metrics_path(run_dir)
    if path.exists():
        kept = [line for line in read_text(path, LISTING).splitlines() if _epoch_of(line) <= epoch]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def clear_run(run_dir: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    for name in ("checkpoints", "previews"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    metrics_path(run_dir).unlink(missing_ok=True)


def _epoch_of(line: str) -> float:
    """The line's epoch; a line that a kill cut short counts as after every epoch."""
    try:
        return float(json.loads(line)["epoch"])
    except ValueError:
        return float("inf")
