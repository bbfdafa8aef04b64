"""Least squares after pruning: a layer's weights anew, so that what is left of its inputs makes what all of them made.

He, Zhang and Sun 2017, *Channel pruning for accelerating very deep neural networks*, for transposed convolutions. With
kernel 4, stride 2 and padding 1, the output pixels of one parity of row and column are a 2×2 convolution of the input,
so each of the four parities is a linear regression of its own.

Shape suffixes: N samples, I input and O output channels, H height, W width, X columns of a regression.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK: Final = 32
"""Samples whose regressors are in memory at a time."""

_RIDGE: Final = 1e-3
"""Of the mean diagonal of the normal matrix: more channels than samples can tell apart stay small."""

_TAPS: Final = (((0, 1), (-1, 3)), ((1, 0), (0, 2)))
"""Parity of an output row y = 2 i + parity → offsets of the input rows it sees from i, and their rows in the kernel."""


def fit_dense(inputs_NI: Tensor, wanted_NO: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights_IO and bias_O that make the wanted values of the inputs with the least squared error."""
    ones_N1 = torch.ones(len(inputs_NI), 1)
    solved_XO = _solve([(torch.cat([inputs_NI, ones_N1], 1), wanted_NO)])
    return solved_XO[:-1], solved_XO[-1]


def fit_transposed(inputs_NIHW: Tensor, wanted_NOHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights [I, O, 4, 4] and bias_O of a transposed convolution, as :func:`fit_dense`.

    Args:
        inputs_NIHW: float32.
        wanted_NOHW: float32, of twice the height and width.
    """
    inputs, outputs = inputs_NIHW.shape[1], wanted_NOHW.shape[1]
    weight_IOKK = torch.zeros(inputs, outputs, 4, 4)
    bias_O = torch.zeros(outputs)
    for down, right in product((0, 1), (0, 1)):
        solved_XO = _solve(_regressors(inputs_NIHW, wanted_NOHW, down, right))
        for at, ((_, row), (_, column)) in enumerate(product(_TAPS[down], _TAPS[right])):
            weight_IOKK[:, :, row, column] = solved_XO[at * inputs : (at + 1) * inputs]
        bias_O += solved_XO[-1] / 4
    return weight_IOKK, bias_O


def _regressors(inputs_NIHW: Tensor, wanted_NOHW: Tensor, down: int, right: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, a few samples at a time, what the pixels of a parity see [rows, X], and what they should be [rows, O]."""
    height, width = inputs_NIHW.shape[2:]
    for start in range(0, len(inputs_NIHW), _CHUNK):
        part_NIHW, target_NOHW = inputs_NIHW[start : start + _CHUNK], wanted_NOHW[start : start + _CHUNK]
        padded = functional.pad(part_NIHW, [1, 1, 1, 1])
        seen = [
            padded[:, :, 1 + y : 1 + y + height, 1 + x : 1 + x + width]
            for (y, _), (x, _) in product(_TAPS[down], _TAPS[right])
        ]
        seen.append(torch.ones_like(part_NIHW[:, :1]))
        seen_NHWX = torch.cat(seen, 1).permute(0, 2, 3, 1)
        target_NHWO = target_NOHW[:, :, down::2, right::2].permute(0, 2, 3, 1)
        yield seen_NHWX.flatten(0, 2), target_NHWO.flatten(0, 2)


def _solve(parts: Iterator[tuple[Tensor, Tensor]] | list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the float32 solution [X, O] of a regression whose last column is 1, by its normal equations in float64."""
    normal_XX = moment_XO = torch.zeros(())
    for seen_RX, target_RO in parts:
        normal_XX = normal_XX + (seen_RX.T @ seen_RX).double()
        moment_XO = moment_XO + (seen_RX.T @ target_RO).double()
    ridge_X = torch.full((len(normal_XX),), _RIDGE * float(normal_XX.diagonal()[:-1].mean()), dtype=torch.float64)
    ridge_X[-1] = 0.0
    solved: Tensor = torch.linalg.solve(normal_XX + torch.diag(ridge_X), moment_XO)
    return solved.float()
