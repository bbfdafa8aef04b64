"""The folder `privacy` of a run directory: what a run took from its data, there as a whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen_engine.engine.base.durable import fsync_directory, write_file
from gen_engine.train.runs.run_dir import PRIVACY

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def commit(run_dir: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder with these files at once: noise of an attempt that was killed is never used.

    OSError when the disk refuses or the folder is there.
    """
    temporary = run_dir / ".tmp-privacy"
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir()
    for name, content in files.items():
        write_file(temporary / name, content)
    fsync_directory(temporary)
    temporary.rename(run_dir / PRIVACY)
    fsync_directory(run_dir)


def differences(before: DataclassInstance, now: DataclassInstance, was: str) -> list[str]:
    """A line, with both values, for each field in which two of a kind differ.

    Args:
        before: what is there.
        now: what is asked for.
        was: what happened to the values there, such as "measured were".
    """
    values: dict[str, Any] = asdict(now)
    return [
        f"  {name.replace('_', ' ')}: {was} {value!r}, this command needs {values[name]!r}"
        for name, value in asdict(before).items()
        if value != values[name]
    ]
