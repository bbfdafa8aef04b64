"""Who takes part in a run: a process that a command started, or one of torchrun. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gen_engine.train.errors import ConfigError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which torchrun, and launchers like it, tell a process who it is."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process of a run."""

    rank: int
    """Its number; process 0 writes the run's files."""

    size: int
    """How many there are."""

    local_rank: int
    """Its number on this machine, and so its GPU."""

    store: str | None = None
    """File by which the processes of one machine find each other; None for torchrun's address."""


def torchrun_member(environment: Mapping[str, str] = os.environ) -> Member | None:
    """This process as torchrun started it; None when it did not, or alone.

    ConfigError for values that are no numbers.
    """
    if not all(name in environment for name in TORCHRUN):
        return None
    try:
        rank, size, local = (int(environment[name]) for name in TORCHRUN[:3])
    except ValueError as error:
        given = ", ".join(f"{name}={environment[name]!r}" for name in TORCHRUN[:3])
        raise ConfigError(f"the environment has {given}: they are whole numbers where torchrun sets them") from error
    return Member(rank=rank, size=size, local_rank=local) if size > 1 else None
