"""torch as it is, channels last: all threads in one call, or a call a thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from limits import THREADS
from numpy.typing import NDArray
from torch import nn
from zoo import Subject

from gen_engine.engine.identity.latents import Latents
from gen_engine.export.torch_graph import GeneratorWithPixels
from peers.contract import LANES, Settings, SideBySide, batches_of


def fp32(subject: Subject) -> Settings:
    """Yield each batch with each split of the threads."""
    return _settings(subject, torch.float32)


def bf16(subject: Subject) -> Settings:
    """Yield the same in bf16."""
    return _settings(subject, torch.bfloat16)


def _settings(subject: Subject, dtype: torch.dtype) -> Settings:
    for batch in batches_of(subject):
        for lanes in LANES:
            setting = f"batch {batch}, {lanes} × {THREADS // lanes} threads"
            yield setting, partial(TorchPeer, subject, batch, dtype, lanes)


class TorchPeer:
    """A generator in torch, with the conversion to pixels.

    Args:
        subject: which generator.
        batch: samples a call.
        dtype: of its weights and its arithmetic.
        lanes: calls side by side.
        compiled: what makes the module faster, if anything.
    """

    def __init__(
        self,
        subject: Subject,
        batch: int,
        dtype: torch.dtype,
        lanes: int,
        compiled: Callable[[nn.Module], Callable[..., tuple[torch.Tensor, ...]]] | None = None,
    ) -> None:
        self.batch, self._dtype, self._threads = batch, dtype, THREADS // lanes
        module = GeneratorWithPixels(subject.copy()).eval().to(dtype).to(memory_format=torch.channels_last)
        self._call = compiled(module) if compiled else module
        self._latents = torch.from_numpy(Latents(dim=subject.bundle.latent.dim).draw(0, batch)).to(dtype)
        self._lanes = SideBySide(lanes)
        self.turn()

    def pixels(self, latents_BZ: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [B, H, W, C]."""
        return self._pixels(torch.from_numpy(latents_BZ).to(self._dtype))

    def turn(self) -> float:
        """Return samples a second of a short while."""
        return self._lanes.turn(lambda: self._pixels(self._latents), self.batch)

    def close(self) -> None:
        """End the threads."""
        self._lanes.close()

    def _pixels(self, latents_BZ: torch.Tensor) -> NDArray[np.uint8]:
        if torch.get_num_threads() != self._threads:  # each thread of Python has its own number
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            return self._call(latents_BZ)[1].numpy()
