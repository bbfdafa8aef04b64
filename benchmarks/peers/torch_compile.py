"""torch.compile in bf16, channels last, with everything that it can tune."""

from __future__ import annotations

from functools import partial

import torch
from limits import THREADS
from zoo import Subject

from peers.contract import Settings, batches_of
from peers.torch_eager import TorchPeer


def bf16(subject: Subject) -> Settings:
    """Yield each batch, with all threads in one call: that is what its kernels are tuned for."""
    for batch in batches_of(subject):
        yield f"batch {batch}, 1 × {THREADS} threads", partial(_compiled, subject, batch)


def _compiled(subject: Subject, batch: int) -> TorchPeer:
    torch._dynamo.reset()
    torch.set_num_threads(THREADS)
    return TorchPeer(subject, batch, torch.bfloat16, 1, partial(torch.compile, mode="max-autotune"))
