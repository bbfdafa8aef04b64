"""Eager torch, channels last: all threads in one call, or one call per thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from limits import THREADS
from numpy.typing import NDArray
from torch import nn
from zoo import ZooModel

from gen_engine.engine.identity.latents import Latents
from gen_engine.export.torch_graph import GeneratorWithPixels
from peers.contract import LANES, Settings, SideBySide, batches_of


def fp32(model: ZooModel) -> Settings:
    """Yield each batch size with each split of the threads."""
    return _settings(model, torch.float32)


def bf16(model: ZooModel) -> Settings:
    """Yield the same settings in bf16."""
    return _settings(model, torch.bfloat16)


def _settings(model: ZooModel, dtype: torch.dtype) -> Settings:
    for batch in batches_of(model):
        for lanes in LANES:
            setting = f"batch {batch}, {lanes} × {THREADS // lanes} threads"
            yield setting, partial(TorchPeer, model, batch, dtype, lanes)


class TorchPeer:
    """A generator in torch, with the conversion to pixels.

    Args:
        model: the generator.
        batch: samples per call.
        dtype: of weights and arithmetic.
        lanes: concurrent calls.
        compiled: compiles the module, if given.
    """

    def __init__(
        self,
        model: ZooModel,
        batch: int,
        dtype: torch.dtype,
        lanes: int,
        compiled: Callable[[nn.Module], Callable[..., tuple[torch.Tensor, ...]]] | None = None,
    ) -> None:
        self.batch, self._dtype, self._threads = batch, dtype, THREADS // lanes
        module = GeneratorWithPixels(model.copy()).eval().to(dtype).to(memory_format=torch.channels_last)
        self._call = compiled(module) if compiled else module
        self._latents = torch.from_numpy(Latents(dim=model.bundle.latent.dim).draw(0, batch)).to(dtype)
        self._lanes = SideBySide(lanes)
        self.turn()

    def pixels(self, latents_BZ: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [B, H, W, C]."""
        return self._pixels(torch.from_numpy(latents_BZ).to(self._dtype))

    def turn(self) -> float:
        """Run one turn; return samples per second."""
        return self._lanes.turn(lambda: self._pixels(self._latents), self.batch)

    def close(self) -> None:
        """End the threads."""
        self._lanes.close()

    def _pixels(self, latents_BZ: torch.Tensor) -> NDArray[np.uint8]:
        if torch.get_num_threads() != self._threads:  # a setting of each Python thread
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            return self._call(latents_BZ)[1].numpy()
