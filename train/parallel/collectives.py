"""What the processes of a run exchange. With one process, which needs no group, everything here leaves values alone.

The group is torch.distributed's default one. Processes have the same number of rows, so a mean over all rows is the
mean of the processes' means. Legend: R processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gen_engine.train.errors import ProcessLost

Result = TypeVar("Result")


def size() -> int:
    """How many processes train this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process writes the run's files and reports."""
    return rank() == 0


def share(rows: Tensor, batch: int, parts: int = 1) -> Tensor:
    """This process's rows, in order, of values that hold one or more blocks of `batch` rows.

    A batch that is computed in parts is cut into these first, so that each part has rows of every process.

    Args:
        rows: [k · batch, …], the same on every process.
        batch: rows of the whole batch, a multiple of processes · parts.
        parts: `accumulate` of the configuration.
    """
    count = size()
    if count == 1:
        return rows
    blocks = rows.reshape(len(rows) // batch, parts, count, batch // (parts * count), *rows.shape[1:])
    return blocks[:, :, rank()].flatten(0, 2)


def average_gradients(gradients: Sequence[Tensor], loss: Tensor) -> Tensor:
    """Replace gradients of this process's mean loss by those of all rows' mean loss, and return that loss.

    One exchange; a value that is not finite on one process is so on all of them afterwards.
    """
    if size() == 1:
        return loss
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), loss.reshape(1)])
    flat = mean(flat)
    parts = torch.split(flat[:-1], [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))
    return flat[-1]


def mean(values: Tensor) -> Tensor:
    """The mean over the processes; gradients flow to each of them."""
    return values if size() == 1 else _Sum.apply(values) / size()  # type: ignore[no-untyped-call]


def gather(values: Tensor) -> Tensor:
    """The values of all processes, [R, …] in their order; gradients flow to each of them."""
    return values[None] if size() == 1 else _Gather.apply(values)  # type: ignore[no-untyped-call]


def agree(signum: int | None) -> int | None:
    """The signal that any process received, the same answer on all: they stop after the same step."""
    if size() == 1:
        return signum
    received = torch.tensor(signum or 0)
    _exchange(dist.all_reduce, received, dist.ReduceOp.MAX)
    return int(received) or None


def differing(digest: str) -> int | None:
    """The first process whose SHA-256 (hex) is another than that of process 0, None where all are equal."""
    if size() == 1:
        return None
    own = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)
    all_RB = _gathered(own)
    others = (all_RB != all_RB[0]).any(dim=1).nonzero().flatten().tolist()
    return int(others[0]) if others else None


def wait() -> None:
    """Until every process is here."""
    agree(None)


class _Sum(torch.autograd.Function):
    """The sum over the processes of equal shapes, whose gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        _exchange(dist.all_reduce, total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)  # type: ignore[no-any-return,no-untyped-call]


class _Gather(torch.autograd.Function):
    """The stacked values of the processes; each receives the sum of all gradients of its own."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _gathered(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)[rank()]  # type: ignore[no-any-return,no-untyped-call]


def _gathered(values: Tensor) -> Tensor:
    values = values.contiguous()
    rows = [torch.empty_like(values) for _ in range(size())]
    _exchange(dist.all_gather, rows, values)
    return torch.stack(rows)


def _exchange(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a collective; ProcessLost when another process is gone."""
    try:
        return function(*arguments)
    except (RuntimeError, ValueError) as error:  # gloo and NCCL have no error of their own in common
        raise ProcessLost(
            "another process of this run ended, or cannot be reached: the same command continues from the last "
            "checkpoint, which is complete"
        ) from error
