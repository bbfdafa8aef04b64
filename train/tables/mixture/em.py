"""Mixtures of products of categoricals, fitted by expectation-maximisation (Dempster, Laird & Rubin 1977).

A row's columns are independent within a component. The M step has a Dirichlet prior, so a component's frequencies are
its rows' and `smoothing` rows of the frequencies of its class: no value that the class has is impossible in any of its
components, and none that it lacks is possible. Each step raises the posterior density, which `fit` records.

The result is a function of codes, options and seed, whatever the thread count: sums are in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

CHUNK = 8192
"""Rows of a step's inner loop: their shares stay in the cache."""

GAIN = 1e-3
"""Gain of held-out rows, in nats per row and step, below which the fit has converged."""

SHARPNESS = 0.5
"""Share of its first row in a component's first frequencies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """The components of one class, on the CPU."""

    weights_C: Tensor
    """float64, positive, their sum 1."""

    frequencies_SC: Tensor
    """float64: probability of each code in each component; sums to 1 over the codes of a column."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a fit went."""

    steps: int
    log_posterior: tuple[float, ...]
    """Per step, in nats, up to a constant; never falls."""

    log_likelihood: float
    """Of the rows fitted to, in nats per row."""

    held_out: float | None
    """Of held-out rows, in nats per row; None where there are none."""


class Rows:
    """Codes of rows, arranged for both steps.

    Args:
        codes_ND: codes of each column.
        sizes: codes of each column.
    """

    def __init__(self, codes_ND: NDArray[np.int32], sizes: Sequence[int]) -> None:
        self.count, self.columns = codes_ND.shape
        self.sizes = tuple(sizes)
        self.states = sum(sizes)
        first_D = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
        self._chunks = [self._arrange(codes_ND[at : at + CHUNK] + first_D) for at in range(0, self.count, CHUNK)]

    def states_of(self, row: int) -> Tensor:
        """The states of one row, int64 [D]."""
        return self._chunks[row // CHUNK][0][row % CHUNK].long()

    def distinct(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The first row of each set of equal ones; sums of a random integer for each state tell them apart."""
        keys_S = torch.from_numpy(rng.integers(-(2**62), 2**62, self.states))
        keys_N = torch.cat([keys_S[states.long()].sum(1) for states, _, _ in self._chunks])
        _, first = np.unique(keys_N.numpy(), return_index=True)
        return np.sort(first)

    def _arrange(self, states_ND: NDArray[np.int32]) -> tuple[Tensor, Tensor, Tensor]:
        """The states of rows, the rows by state, and where each state begins in them."""
        order = np.argsort(states_ND, axis=None, kind="stable")
        counts = np.bincount(states_ND.ravel(), minlength=self.states)
        first_S = np.concatenate([[0], np.cumsum(counts)[:-1]])
        by_state = (order // self.columns).astype(np.int32)
        return tuple(map(torch.from_numpy, (states_ND, by_state, first_S.astype(np.int32))))  # type: ignore[return-value]

    def log_likelihood(self, mixture: Mixture) -> float:
        """Mean over the rows, in nats."""
        log_SC, log_C = mixture.frequencies_SC.log().float(), mixture.weights_C.log().float()
        total = 0.0
        for states, _, _ in self._chunks:
            total += float(torch.logsumexp(embedding_bag(states, log_SC, mode="sum") + log_C, 1).double().sum())
        return float(total / self.count)

    def expect(self, mixture: Mixture) -> tuple[Tensor, Tensor, float]:
        """One E step.

        Returns:
            Rows of each component, float64 [C]; rows of each state in each, float64 [S, C]; the log likelihood.
        """
        log_SC, log_C = mixture.frequencies_SC.log().float(), mixture.weights_C.log().float()
        rows_C = torch.zeros(len(log_C), dtype=torch.float64)
        rows_SC = torch.zeros(log_SC.shape, dtype=torch.float64)
        total = 0.0
        for states, by_state, first_S in self._chunks:
            joint_NC = embedding_bag(states, log_SC, mode="sum").add_(log_C)
            norm_N1 = torch.logsumexp(joint_NC, 1, keepdim=True)
            shares_NC = joint_NC.sub_(norm_N1).exp_()
            total += float(norm_N1.double().sum())
            rows_C += shares_NC.sum(0, dtype=torch.float64)
            rows_SC += embedding_bag(by_state, shares_NC, first_S, mode="sum")
        return rows_C, rows_SC, total


def fit(
    rows: Rows,
    prior_S: Tensor,
    components: int,
    *,
    smoothing: float,
    steps: int,
    seed: int,
    held_out: Rows | None = None,
    on_step: Callable[[int, float], None] = lambda step, log_likelihood: None,
) -> tuple[Mixture, Fit]:
    """Fit a mixture to rows.

    Args:
        rows: at least one.
        prior_S: frequencies that components are drawn to, float64, summing to 1 over a column's codes; positive for the
            codes of all rows, the held-out ones too.
        components: how many; fewer where fewer rows differ.
        smoothing: rows of `prior_S` that are added to each component.
        steps: most steps.
        seed: draws the rows that components begin with.
        held_out: rows that decide when to stop.
        on_step: called after each step with its number and the log likelihood per row.
    """
    mixture = _start(rows, prior_S, components, seed)
    history: list[float] = []
    before, step, mean = -math.inf, 0, 0.0
    for step in range(1, steps + 1):
        rows_C, rows_SC, total = rows.expect(mixture)
        history.append(total + _log_prior(mixture, prior_S, smoothing))
        mean = total / rows.count
        mixture = _maximise(rows_C, rows_SC, prior_S, smoothing, rows.sizes)
        on_step(step, mean)
        if held_out is not None and step % 5 == 0:
            now = held_out.log_likelihood(mixture)
            if now - before < 5 * GAIN:
                break
            before = now
    final = None if held_out is None else held_out.log_likelihood(mixture)
    return mixture, Fit(steps=step, log_posterior=tuple(history), log_likelihood=mean, held_out=final)


def _start(rows: Rows, prior_S: Tensor, components: int, seed: int) -> Mixture:
    """Components around rows that are drawn from the distinct ones: equal components would stay equal for ever."""
    rng = np.random.Generator(np.random.PCG64(seed))
    distinct = rows.distinct(rng)
    chosen = np.sort(rng.permutation(distinct)[:components])
    frequencies_SC = (1.0 - SHARPNESS) * prior_S[:, None].repeat(1, len(chosen))
    for place, row in enumerate(chosen.tolist()):
        frequencies_SC[rows.states_of(row), place] += SHARPNESS
    weights_C = torch.full((len(chosen),), 1.0 / len(chosen), dtype=torch.float64)
    return Mixture(weights_C=weights_C, frequencies_SC=frequencies_SC)


def _maximise(rows_C: Tensor, rows_SC: Tensor, prior_S: Tensor, smoothing: float, sizes: Sequence[int]) -> Mixture:
    counts_SC = rows_SC + smoothing * prior_S[:, None]
    # All columns' counts sum to the same in exact arithmetic; each by its own sum is a distribution in float64 too.
    parts = [part / part.sum(0) for part in torch.split(counts_SC, list(sizes))]
    weights_C = (rows_C + smoothing) / (rows_C + smoothing).sum()
    return Mixture(weights_C=weights_C, frequencies_SC=torch.cat(parts))


def _log_prior(mixture: Mixture, prior_S: Tensor, smoothing: float) -> float:
    """Log density of the Dirichlet priors, up to a constant."""
    of_frequencies = torch.xlogy(smoothing * prior_S[:, None], mixture.frequencies_SC).sum()  # 0 · log 0 is 0
    return float(of_frequencies + smoothing * mixture.weights_C.log().sum())
