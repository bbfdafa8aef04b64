"""The checkpoint format: a directory of safetensors and one JSON record, whole or not there.

    RUN/checkpoints/step-00001876/
        checkpoint.json               configuration, data, step, metrics, SHA-256 of every other file, and its own
        generator.safetensors         the generator (VAE: decoder) as the optimiser has it
        generator-ema.safetensors     its moving average: what is exported
        partner.safetensors           the discriminator (VAE: encoder)
        optimizers.safetensors        NAME/PARAMETER/STATE
        rng.safetensors               torch's global state and the run's own stream, uint8

A save writes a hidden temporary directory, fsyncs every file and the directory, renames it, fsyncs the parent, and
only then removes what is older than the last two, so a kill at any instant leaves a loadable checkpoint. The newest
step is the current one. Nothing is ever unpickled: safetensors holds numbers only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from gen_engine.engine.base.files import DOCUMENT, MODEL, read_bounded
from gen_engine.train.config import TrainConfig
from gen_engine.train.errors import CheckpointError, ConfigError
from gen_engine.train.models import Generator, ModelConfig, build_generator

FORMAT = 1
KEPT = 2
RECORD = "checkpoint.json"
FILES = ("generator", "generator-ema", "partner", "optimizers", "rng")
_STEP = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a run needs to continue, as tensors on the CPU and a JSON-able record."""

    tensors: dict[str, dict[str, Tensor]]
    """One entry for each of FILES."""

    record: dict[str, Any]
    """`config`, `data`, `step`, `epoch` and whatever else the loop keeps."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a generator was trained as, on what and for how long."""

    config: ModelConfig
    """How to build the generator."""

    training: TrainConfig
    """The whole configuration of the run."""

    class_names: tuple[str, ...] | None
    """A name for each class, None without labels."""

    data_name: str
    """Name of the training data."""

    data_digest: str
    """SHA-256 (hex) of the training data, see `gen_engine.train.data.image_data.digest_of`."""

    steps: int
    """Optimisation steps taken."""

    epochs: int
    """Whole epochs taken."""

    metrics: dict[str, Any]
    """The last whole epoch's mean losses; empty before there is one."""

    path: Path
    """The checkpoint's own directory."""

    latent_distribution: str = "normal"
    """What latents are drawn from: a standard normal."""


def save_checkpoint(run_dir: Path, snapshot: Snapshot) -> Path:
    """Commit a snapshot as RUN/checkpoints/step-N and return that path.

    OSError when the disk refuses or that step is there already; what was there before stays.
    """
    parent = run_dir / "checkpoints"
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    target = parent / f"step-{snapshot.record['step']:08d}"
    temporary = parent / f".tmp-{target.name}"
    temporary.mkdir()
    record = {"format": FORMAT, **snapshot.record, "files": {}}
    for name in FILES:
        content = safetensors.torch.save({k: v.contiguous() for k, v in snapshot.tensors[name].items()})
        _write(temporary / f"{name}.safetensors", content)
        record["files"][f"{name}.safetensors"] = hashlib.sha256(content).hexdigest()
    _write(temporary / RECORD, _sealed(record))
    _fsync_dir(temporary)
    temporary.rename(target)
    _fsync_dir(parent)
    for old in _committed(parent)[:-KEPT]:
        _discard(old)
    return target


def has_checkpoint(run_dir: Path) -> bool:
    """Whether the run directory holds a committed checkpoint (damaged or not)."""
    return bool(_committed(run_dir / "checkpoints"))


def load_checkpoint(run_dir: Path) -> Snapshot:
    """The newest snapshot, every file checked; CheckpointError naming the file and the fix."""
    path = newest_checkpoint(run_dir)
    record = _read_record(path)
    return Snapshot(tensors={name: _read_tensors(path, name, record) for name in FILES}, record=record)


def load_generator(run_dir: Path) -> tuple[Generator, CheckpointInfo]:
    """The moving-average generator of the newest checkpoint, in eval mode on the CPU, and what it is.

    Only the record and that one file are read. CheckpointError when either is missing or damaged.
    """
    path = newest_checkpoint(run_dir)
    record = _read_record(path)
    info = _info(path, record)
    generator = build_generator(info.config)
    weights = _read_tensors(path, "generator-ema", record)
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}/generator-ema.safetensors does not fit its own config: {error}") from error
    return generator.eval().requires_grad_(False), info


def newest_checkpoint(run_dir: Path) -> Path:
    """The directory of the newest committed checkpoint; CheckpointError when there is none."""
    committed = _committed(run_dir / "checkpoints")
    if not committed:
        raise CheckpointError(f"{run_dir} holds no checkpoint: give the --out of a `gen-engine train` run")
    return committed[-1]


def _info(path: Path, record: dict[str, Any]) -> CheckpointInfo:
    try:
        training = TrainConfig.from_json(record["config"])
        names = record["data"]["class_names"]
        return CheckpointInfo(
            config=training.model,
            training=training,
            class_names=None if names is None else tuple(names),
            data_name=record["data"]["name"],
            data_digest=record["data"]["digest"],
            steps=record["step"],
            epochs=record["epoch"],
            metrics=record["metrics"],
            path=path,
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path / RECORD} is not a record this version can read: {error!r}") from error


def _read_record(path: Path) -> dict[str, Any]:
    file = path / RECORD
    try:
        record = json.loads(_read(file))
    except ValueError as error:
        raise _damaged(file, f"it is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise _damaged(file, "it is not a JSON object")
    if isinstance(record.get("format"), int) and record["format"] > FORMAT:
        raise CheckpointError(
            f"{file} has format {record['format']}, this version reads up to {FORMAT}: upgrade gen-engine"
        )
    if _seal(record) != record.get("sha256"):
        raise _damaged(file, "its own SHA-256 does not match")
    return record


def _read_tensors(path: Path, name: str, record: dict[str, Any]) -> dict[str, Tensor]:
    file = path / f"{name}.safetensors"
    content = _read(file)
    found = hashlib.sha256(content).hexdigest()
    if found != record["files"].get(file.name):
        raise _damaged(file, f"SHA-256 is {found}, recorded was {record['files'].get(file.name)}")
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError) as error:
        raise _damaged(file, str(error)) from error


def _read(file: Path) -> bytes:
    try:
        return read_bounded(file, DOCUMENT if file.name == RECORD else MODEL)
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error


def _damaged(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{file} cannot be used: {reason}. Delete {file.parent} to go back to the checkpoint before it, if any."
    )


def _sealed(record: dict[str, Any]) -> bytes:
    return json.dumps({**record, "sha256": _seal(record)}, indent=1).encode() + b"\n"


def _seal(record: dict[str, Any]) -> str:
    body = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _committed(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    found = [(int(match[1]), path) for path in parent.iterdir() if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def _sweep(parent: Path) -> None:
    """Remove what a killed save left."""
    for path in parent.glob(".tmp-*"):
        shutil.rmtree(path)


def _discard(path: Path) -> None:
    """Remove a committed checkpoint; the rename first, so a kill leaves no half of one under its name."""
    doomed = path.with_name(f".tmp-{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fsync_dir(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
