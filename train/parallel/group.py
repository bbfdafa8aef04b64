"""The group of a run's processes: how they find each other, and by what they exchange."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from gen_engine.train.errors import ConfigError, ProcessLost
from gen_engine.train.parallel.member import Member

TIMEOUT = timedelta(days=1)
"""Of an exchange. The first process may fit, measure and save for long while the others wait; one that ended is noticed
at once, since its connections close."""

INTERFACE = "GLOO_SOCKET_IFNAME"


@contextmanager
def joined(member: Member, device: str) -> Iterator[None]:
    """Be in the group of all processes; ConfigError for more processes than GPUs, ProcessLost without the others."""
    if device == "cuda":
        gpus = torch.cuda.device_count()
        if member.local_rank >= gpus:
            raise ConfigError(f"process {member.local_rank} of this machine has no GPU: it has {gpus}, use as many")
        torch.cuda.set_device(member.local_rank)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    with _loopback(member.store is not None):
        try:
            store = None if member.store is None else dist.FileStore(member.store, member.size)  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=store, world_size=member.size, rank=member.rank, timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise ProcessLost(f"process {member.rank} of {member.size} did not find the others: {error}") from error
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _loopback(local: bool) -> Iterator[None]:
    """Have gloo connect processes of one machine by the loopback interface, which no other machine reaches."""
    if not local or INTERFACE in os.environ:
        yield
        return
    os.environ[INTERFACE] = "lo0" if sys.platform == "darwin" else "lo"
    try:
        yield
    finally:
        del os.environ[INTERFACE]


@contextmanager
def meeting_place() -> Iterator[str]:
    """A file for `Member.store`, in a directory of its own that others cannot enter."""
    with tempfile.TemporaryDirectory(prefix="gen-engine-", ignore_cleanup_errors=True) as directory:
        yield str(Path(directory) / "store")
