"""Checks that the processes of a run do the same thing; each is an exchange, and raises on every process alike."""

from __future__ import annotations

import json
from pathlib import Path

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import BackendError
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import CheckpointError, ConfigError, DataError
from gen_engine.train.parallel import collectives


def check_alike(config: TrainConfig, data: ImageData) -> None:
    """DataError or ConfigError when a process has other data, or another configuration, than process 0."""
    other = collectives.differing(data.digest)
    if other is not None:
        raise DataError(
            f"process {other} read other data than process 0: this one, {collectives.rank()}, has {data.name} (SHA-256 "
            f"{data.digest[:16]}…). Give all the same data, and leave it unchanged while they start"
        )
    other = collectives.differing(sha256_bytes(json.dumps(config.to_json(), sort_keys=True).encode()))
    if other is not None:
        raise ConfigError(
            f"process {other} has another configuration than process 0: give all the same options; on machines that "
            f"differ, --precision and --device as well"
        )


def check_same_place(step: int, run_dir: Path) -> None:
    """CheckpointError when a process begins at another step than process 0: it sees another directory."""
    other = collectives.differing(sha256_bytes(str(step).encode()))
    if other is not None:
        raise CheckpointError(
            f"process {other} begins at another step than process 0; this one, {collectives.rank()}, at {step}: "
            f"{run_dir} must be the same directory for all of them"
        )


def check_same_weights(digest: str, step: int) -> None:
    """BackendError when a process has other weights than process 0, which equal arithmetic cannot give."""
    other = collectives.differing(digest)
    if other is not None:
        raise BackendError(
            f"process {other} has other weights than process 0 after step {step}: its processor or libraries compute "
            f"otherwise. Train on machines of one kind; the last checkpoint is complete"
        )
