"""What training of every network of tables shares: rows in random batches, and layers as the arrays that are stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.train.device import resolve_device
from gen_engine.train.errors import TrainingDiverged
from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.networks.codes import PADDING
from gen_engine.train.tables.networks.layout import first_of, groups_of, is_padding


class Rows:
    """Coded rows on a device.

    Args:
        coded: the table.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: of everything that is drawn.
    """

    def __init__(self, coded: Coded, device: str, seed: int) -> None:
        self.device = torch.device(resolve_device(device))
        self.sizes = tuple(one.codes for one in coded.specs)
        self.groups = groups_of(self.sizes)
        rows = np.concatenate(coded.classes.rows_Y)
        classes_N = np.repeat(np.arange(len(coded.classes.rows_Y)), [len(one) for one in coded.classes.rows_Y])
        order = np.argsort(rows)
        first_D = first_of(self.groups, len(self.sizes))
        places_ND = coded.codes_ND[rows[order]] + first_D
        self.places_ND = torch.from_numpy(places_ND).to(self.device)
        """Where each code of a row is in the vector of all codes, int64."""
        self.class_N = torch.from_numpy(classes_N[order]).to(self.device)
        self.classes = len(coded.classes.rows_Y)
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.places_ND)

    @property
    def values(self) -> int:
        """P, codes with their padding."""
        return sum(group.values for group in self.groups)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the rows of an epoch in random order, int64 [size]; what is left over is left out."""
        order = torch.randperm(len(self), generator=self.generator)
        size = min(size, len(self))
        for start in range(0, len(self) - size + 1, size):
            yield order[start : start + size].to(self.device)

    def random(self, *shape: int) -> Tensor:
        """Return uniforms over (0, 1) from this run's seed, whatever the device."""
        return torch.rand(*shape, generator=self.generator).clamp(1e-6, 1 - 1e-6).to(self.device)

    def logistic(self, *shape: int) -> Tensor:
        """Return draws of the logistic distribution."""
        uniform = self.random(*shape)
        return uniform.log() - torch.log1p(-uniform)


class OutputLayer(nn.Linear):
    """The last layer: logits of all columns' codes, of padding far below. Padding has no gradient: e^-10,000 is 0."""

    def __init__(self, hidden: int, rows: Rows) -> None:
        super().__init__(hidden, rows.values)
        padding = torch.from_numpy(is_padding(rows.groups, rows.sizes))
        with torch.no_grad():
            self.weight[padding] = 0
            self.bias[:] = torch.where(padding, float(PADDING), 0.0)


def by_group(values_NP: Tensor, rows: Rows) -> Iterator[Tensor]:
    """Yield a group's part of a vector of all codes, [N, columns, width] each."""
    parts = torch.split(values_NP, [group.values for group in rows.groups], dim=1)
    for part, group in zip(parts, rows.groups, strict=True):
        yield part.reshape(len(part), len(group.columns), group.width)


def log_softmax(logits_NP: Tensor, rows: Rows) -> Tensor:
    """Return the logarithms of the probabilities of all columns' codes, [N, P]."""
    return torch.cat([part.log_softmax(2).flatten(1) for part in by_group(logits_NP, rows)], dim=1)


def run_epochs(
    count: int, epoch: Callable[[], Mapping[str, float]], on_step: Callable[[int, Mapping[str, float]], None]
) -> dict[str, float]:
    """Train for so many epochs and return the losses of the last.

    Raises:
        TrainingDiverged: a loss is not finite.
    """
    losses: dict[str, float] = {}
    for number in range(1, count + 1):
        losses = dict(epoch())
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise TrainingDiverged(
                f"the {bad[0]} of epoch {number} is {losses[bad[0]]}: train with a smaller --lr, or a larger --batch"
            )
        on_step(number, losses)
    return losses


def layers_of(linears: Sequence[nn.Linear]) -> dict[str, NDArray[Any]]:
    """Return the arrays of layers after the first."""
    arrays: dict[str, NDArray[Any]] = {}
    for place, layer in enumerate(linears, start=1):
        arrays[f"weight{place}"] = array_of(layer.weight)
        arrays[f"bias{place}"] = array_of(layer.bias)
    return arrays


def array_of(tensor: Tensor) -> NDArray[np.float32]:
    """Return a tensor as a contiguous array of float32."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(np.float32))
