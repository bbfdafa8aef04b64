"""torch.compile in bf16, channels last, with max-autotune."""

from __future__ import annotations

from functools import partial

import torch
from limits import THREADS
from zoo import ZooModel

from peers.contract import Settings, batches_of
from peers.torch_eager import TorchPeer


def bf16(model: ZooModel) -> Settings:
    """Yield each batch size with all threads in one call, which is what its kernels are tuned for."""
    for batch in batches_of(model):
        yield f"batch {batch}, 1 × {THREADS} threads", partial(_compiled, model, batch)


def _compiled(model: ZooModel, batch: int) -> TorchPeer:
    torch._dynamo.reset()
    torch.set_num_threads(THREADS)
    return TorchPeer(model, batch, torch.bfloat16, 1, partial(torch.compile, mode="max-autotune"))
