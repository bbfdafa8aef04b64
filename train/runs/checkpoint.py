"""The checkpoint format: a directory of safetensors and one JSON record, complete or absent.

    RUN/checkpoints/step-00001876/    and RUN/checkpoints-best/step-N/, of which there is one at most
        checkpoint.json               configuration, data, step, metrics, size and SHA-256 of every other file; sealed
        generator.safetensors         the generator (VAE: decoder) as the optimiser has it
        generator-ema.safetensors     its moving average: what is exported
        auxiliary.safetensors         the discriminator (VAE: encoder)
        optimizers.safetensors        NAME/PARAMETER/STATE
        rng.safetensors               torch's global state and the run's own stream, uint8

A save writes a hidden temporary directory, fsyncs every file and the directory, renames it, fsyncs the parent, and
only then removes what is older than the last two, so a kill at any instant leaves a loadable checkpoint. The newest
step is the current one. Nothing is ever unpickled: safetensors holds numbers only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gen_engine.engine.base.digests import unseal
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.base.parse import Fields, anything
from gen_engine.engine.base.strict_json import parse_json
from gen_engine.train.config import TrainConfig
from gen_engine.train.errors import CheckpointError, ConfigError
from gen_engine.train.models import Generator, ModelConfig, build_auxiliary, build_generator, family_of
from gen_engine.train.models.contract import Discriminator
from gen_engine.train.privacy.ledger import Ledger
from gen_engine.train.runs.record import RunRecord
from gen_engine.train.runs.run_dir import BEST, CHECKPOINTS
from gen_engine.train.runs.sealed import Stored, discard, read_stored, sweep, write_sealed
from gen_engine.train.watch.alarm import Alarm

SCHEMA = 4
KEPT = 2
RECORD = "checkpoint.json"
FILES = ("generator", "generator-ema", "auxiliary", "optimizers", "rng")
STEP = "step/"
"""Begins the names, among the auxiliary's tensors, of what a training step remembers."""

OLDER = "train again, or export it with the version of gen-engine that wrote it"
_STEP = re.compile(r"step-([0-9]{8,18})")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a run needs to continue, as tensors on the CPU and a record."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """One entry for each of FILES."""

    record: RunRecord
    """Configuration, data, step and what else the loop keeps."""


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

    alarms: tuple[Alarm, ...] = ()
    """What the watch raised until then; empty for a run that was not watched."""

    ledger: Ledger | None = None
    """What a private GAN took from its data until then."""

    latent_distribution: str = "normal"
    """What latents are drawn from: a standard normal."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """What checkpoint.json holds."""

    run: RunRecord
    files: Mapping[str, Stored]
    """By name, one for each of FILES."""


def save_checkpoint(run_dir: Path, snapshot: Snapshot) -> Path:
    """Commit a snapshot as RUN/checkpoints/step-N and return that path.

    OSError when the disk refuses or that step is there already; what was there before stays.
    """
    parent = run_dir / CHECKPOINTS
    target = _commit(parent, snapshot)
    for old in _committed(parent)[:-KEPT]:
        discard(old)
    return target


def save_best(run_dir: Path, snapshot: Snapshot) -> Path:
    """Commit a snapshot as RUN/checkpoints-best/step-N, in the place of what is there, and return that path.

    OSError when the disk refuses; what was there before stays. Rotation of the other checkpoints leaves it alone.
    """
    parent = run_dir / BEST
    for same in _committed(parent):
        if same.name == _name(snapshot):  # of steps that a resumed run took again, on other threads
            discard(same)
    target = _commit(parent, snapshot)
    for old in _committed(parent):
        if old != target:
            discard(old)
    return target


def _name(snapshot: Snapshot) -> str:
    return f"step-{snapshot.record.step:08d}"


def _commit(parent: Path, snapshot: Snapshot) -> Path:
    """Write a snapshot below a directory, complete or not at all."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    target = parent / _name(snapshot)
    files = (
        (f"{name}.safetensors", safetensors.torch.save({k: v.contiguous() for k, v in snapshot.tensors[name].items()}))
        for name in FILES
    )
    write_sealed(target, RECORD, {"schema": SCHEMA, "run": snapshot.record.to_json()}, files)
    return target


def has_checkpoint(run_dir: Path) -> bool:
    """Whether the run directory holds a committed checkpoint (damaged or not)."""
    return bool(_committed(run_dir / CHECKPOINTS))


def load_checkpoint(run_dir: Path) -> Snapshot:
    """The newest snapshot, every file checked; CheckpointError naming the file and the fix."""
    path = newest_checkpoint(run_dir)
    document = _read_document(path)
    tensors = {name: _read_tensors(path, name, document) for name in FILES}
    return Snapshot(tensors=tensors, record=document.run)


def load_generator(run_dir: Path, which: str = "last") -> tuple[Generator, CheckpointInfo]:
    """The moving-average generator of a checkpoint, in eval mode on the CPU, and what it is.

    Only the record and that one file are read. CheckpointError when either is missing or damaged.

    Args:
        run_dir: the run.
        which: as of `find_checkpoint`.
    """
    path = find_checkpoint(run_dir, which)
    document = _read_document(path)
    run = document.run
    weights = _read_tensors(path, "generator-ema", document)
    try:
        with torch.device("meta"):  # nothing is allocated before the sizes are known to be those of the file
            check_tensors(build_generator(run.config.model), weights)
        generator = build_generator(run.config.model)
        generator.load_state_dict(weights)
    except (ConfigError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}/generator-ema.safetensors does not fit its own config: {error}") from error
    info = CheckpointInfo(
        config=run.config.model,
        training=run.config,
        class_names=run.data.class_names,
        data_name=run.data.name,
        data_digest=run.data.digest,
        steps=run.step,
        epochs=run.epoch,
        metrics=dict(run.metrics),
        path=path,
        alarms=run.alarms,
        ledger=run.ledger,
    )
    return generator.eval().requires_grad_(False), info


def load_discriminator(path: Path) -> Discriminator:
    """The discriminator of a checkpoint, given its directory, in eval mode on the CPU.

    CheckpointError when it is missing or damaged, ConfigError when the run has none: a VAE's auxiliary is an encoder.
    """
    document = _read_document(path)
    model = document.run.config.model
    if family_of(model.family).kind != "gan":
        raise ConfigError(f"{path}: a {model.family} is trained without a discriminator")
    tensors = _read_tensors(path, "auxiliary", document)
    weights = {name: value for name, value in tensors.items() if not name.startswith(STEP)}
    try:
        with torch.device("meta"):  # nothing is allocated before the sizes are known to be those of the file
            check_tensors(build_auxiliary(model), weights)
        network = build_auxiliary(model)
        network.load_state_dict(weights)
    except (ConfigError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}/auxiliary.safetensors does not fit its own config: {error}") from error
    if not isinstance(network, Discriminator):
        raise ConfigError(f"{path}: the auxiliary of {model.family} is a {type(network).__name__}")
    return network.eval().requires_grad_(False)


def check_tensors(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """ValueError when these are not the network's parameters and buffers, by name, shape and dtype."""
    expected = {name: _form(tensor) for name, tensor in network.state_dict().items()}
    present = {name: _form(tensor) for name, tensor in weights.items()}
    for name in sorted(expected.keys() | present.keys()):
        if expected.get(name) != present.get(name):
            raise ValueError(f"{name} is {present.get(name, 'missing')}, the model has {expected.get(name, 'none')}")


def newest_checkpoint(run_dir: Path) -> Path:
    """The directory of the newest committed checkpoint; CheckpointError when there is none."""
    committed = _committed(run_dir / CHECKPOINTS)
    if not committed:
        raise CheckpointError(f"{run_dir} holds no checkpoint: give the --out of a `gen-engine train` run")
    return committed[-1]


def find_checkpoint(run_dir: Path, which: str) -> Path:
    """The directory of a committed checkpoint; CheckpointError, with those that there are, when it is not there.

    Args:
        run_dir: the run.
        which: "last", the newest; "best", what `keep_best` kept; or "step-N".
    """
    if which == "last":
        return newest_checkpoint(run_dir)
    best, match = _committed(run_dir / BEST), re.fullmatch(r"step-0*([0-9]{1,18})", which)
    if which == "best" and best:
        return best[-1]
    present = {path.name: path for path in [*best, *_committed(run_dir / CHECKPOINTS)]}
    if match and (name := f"step-{int(match[1]):08d}") in present:
        return present[name]
    if which == "best":
        raise CheckpointError(f"{run_dir} keeps no best checkpoint: train with --watch, or take the last one")
    steps = ", ".join(sorted(present)) or "none"
    raise CheckpointError(f"{run_dir} holds no checkpoint {which!r}: use last, best, or one of {steps}")


def best_record(run_dir: Path) -> RunRecord | None:
    """The record of the best checkpoint; None when none is kept, CheckpointError when it is damaged."""
    committed = _committed(run_dir / BEST)
    return _read_document(committed[-1]).run if committed else None


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _read_document(path: Path) -> Document:
    file = path / RECORD
    content = _read(file, DOCUMENT)
    try:
        stated = parse_json(content)
        if isinstance(stated, dict) and "format" in stated and "schema" not in stated:
            raise ValueError(f"it has format {stated['format']!r} of an earlier gen-engine; {OLDER}")
        with Fields(unseal(content, schema=SCHEMA, older=OLDER)) as fields:
            fields.take("schema", anything)
            fields.take("digest", anything)
            run = fields.take("run", RunRecord.from_json)
            with Fields(fields.take("files", anything), "files") as files:
                stored = {name: files.take(name, Stored.from_json) for name in FILES}
    except (ValueError, ConfigError) as error:
        raise _damaged(file, str(error)) from error
    return Document(run=run, files=stored)


def _read_tensors(path: Path, name: str, document: Document) -> dict[str, Tensor]:
    file = path / f"{name}.safetensors"
    try:
        content = read_stored(file, document.files[name])
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # torch raises RuntimeError, TypeError, KeyError on headers that safetensors accepts
        raise _damaged(file, str(error)) from error


def _read(file: Path, limit: int) -> bytes:
    try:
        return read_bounded(file, limit)
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error


def _damaged(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{file} cannot be used: {reason}. Delete {file.parent} to go back to the checkpoint before it, if any."
    )


def _committed(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    steps = [(int(match[1]), path) for path in parent.iterdir() if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(steps)]
