"""The state of a distillation on disk: one safetensors file per save, and the sealed document that names the newest.

    WORK/distill.json                 settings, step, name, size and SHA-256 of the file
    WORK/state-00000500.safetensors   student/TENSOR, optimizer/INDEX/NAME

The document is replaced only once the file is durable, and older files are removed after that, so a kill at any instant
leaves a state that can be continued. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from gen_engine.engine.base.digests import seal, sha256_bytes, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import DOCUMENT, MODEL, read_bounded
from gen_engine.engine.base.parse import Fields, anything, digest, integer, mapping_of, text
from gen_engine.engine.errors import PlanMismatch
from gen_engine.train.errors import CheckpointError

SCHEMA = 1
DOCUMENT_NAME = "distill.json"
_OLDER = "remove the directory, and distill again"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A state that can be continued."""

    settings: Mapping[str, Any]
    """Everything that decides what a step computes, as plain JSON."""

    step: int
    """Steps taken."""

    tensors: Mapping[str, Tensor]


def save_state(work: Path, saved: Saved) -> None:
    """Write a state, and then remove older ones; OSError when the disk refuses, and the older one stays."""
    name = f"state-{saved.step:08d}.safetensors"
    content = safetensors.torch.save({key: one.contiguous() for key, one in saved.tensors.items()})
    replace_file(work / name, content, work)
    document = {
        "schema": SCHEMA,
        "settings": dict(saved.settings),
        "step": saved.step,
        "file": {"name": name, "bytes": len(content), "sha256": sha256_bytes(content)},
    }
    replace_file(work / DOCUMENT_NAME, seal(document), work)
    for other in (*work.glob("state-*.safetensors"), *work.glob("*.tmp")):
        if other.name != name:
            other.unlink(missing_ok=True)


def load_state(work: Path, settings: Mapping[str, Any]) -> Saved | None:
    """Return the newest state; None if there is none.

    Raises:
        PlanMismatch: it is of other settings, with both values of each that differs.
        CheckpointError: it is damaged.
    """
    path = work / DOCUMENT_NAME
    if not path.exists():
        return None
    try:
        with Fields(unseal(read_bounded(path, DOCUMENT), schema=SCHEMA, older=_OLDER)) as fields:
            fields.take("schema", anything)
            fields.take("digest", anything)
            before = fields.take("settings", mapping_of(anything))
            step = fields.take("step", integer(0, 2**53))
            with Fields(fields.take("file", anything), "file") as file:
                name = file.take("name", text(63))
                size, sha256 = file.take("bytes", integer(0, MODEL)), file.take("sha256", digest)
        _check_settings(work, before, settings)
        return Saved(settings=before, step=step, tensors=_read_tensors(work, name, size, sha256))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}; {_OLDER}") from error


def _read_tensors(work: Path, name: str, size: int, sha256: str) -> dict[str, Tensor]:
    """Return the tensors of a file; ValueError unless it is the one that was recorded."""
    if name != Path(name).name:
        raise ValueError(f"it names {name!r}, which is no file beside it")
    content = read_bounded(work / name, size, follow_symlinks=False)
    if len(content) != size or sha256_bytes(content) != sha256:
        raise ValueError(f"{name} is not the file that was recorded: its bytes differ")
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # torch raises RuntimeError, TypeError, KeyError on headers that safetensors accepts
        raise ValueError(f"{name}: {error}") from error


def _check_settings(work: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    lines = [
        f"  {name.replace('_', '-')}: there it is {before.get(name)!r}, this command has {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if lines:
        raise PlanMismatch(
            f"{work} holds an unfinished distillation with other settings:\n"
            + "\n".join(lines)
            + "\nUse its own values, another --out, or --no-resume to start over."
        )
