"""Gaussian mixtures fitted by expectation-maximisation (Dempster, Laird & Rubin 1977), with full covariances.

The result is a function of the rows, the seed and torch's thread count: float64 on the CPU, a fixed order of sums.

Legend: N rows, D dimensions, K components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LLOYD_STEPS = 10
"""Steps of k-means before the first expectation."""

MAX_STEPS = 30
"""Most steps of expectation-maximisation."""

TOLERANCE = 1e-2
"""Gain in mean log likelihood, in nats per row, below which the fit has converged."""

ROWS_PER_DIMENSION = 2
"""Rows that a component has per dimension, on average, at least: fewer components are fitted to fewer rows."""

PSEUDO_ROWS = 1.0
"""Weight, in rows, of the pooled variances that every covariance is drawn to; keeps each of full rank."""

LEAST_VARIANCE = 1e-6
"""Floor of a pooled variance: dimensions may be constant."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """A mixture of Gaussians on the CPU, float64."""

    weights_K: Tensor
    """Positive, their sum 1."""

    means_KD: Tensor
    factors_KDD: Tensor
    """Lower Cholesky factors of the covariances."""

    def log_likelihood(self, rows_ND: Tensor) -> Tensor:
        """Log density of each row, in nats, float64 [N]."""
        return torch.logsumexp(self.log_joint(rows_ND), dim=1)

    def log_joint(self, rows_ND: Tensor) -> Tensor:
        """Log of each component's weight times its density at each row, float64 [N, K]."""
        identity_DD = torch.eye(rows_ND.shape[1], dtype=torch.float64)
        inverse_KDD = torch.linalg.solve_triangular(self.factors_KDD, identity_DD, upper=False)
        white_KND = (rows_ND[None] - self.means_KD[:, None]) @ inverse_KDD.transpose(
            1, 2
        )  # faster than solving for all
        log_scale_K = self.factors_KDD.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        constant = 0.5 * rows_ND.shape[1] * math.log(2 * math.pi)
        log_weight_K = self.weights_K.log() - log_scale_K - constant
        log_joint_NK: Tensor = log_weight_K[None] - 0.5 * white_KND.square().sum(dim=2).T
        return log_joint_NK


def fit_mixture(rows_ND: Tensor, components: int, rng: torch.Generator) -> Mixture:
    """Fit a mixture to rows.

    Each covariance is the weighted one of its rows and `PSEUDO_ROWS` rows of the pooled variances, so one row
    suffices; components are fewer than asked for where there are fewer than `ROWS_PER_DIMENSION` · D rows for each,
    and components that lose their rows are left out.

    Args:
        rows_ND: at least one row, finite, of any float type.
        components: most components, at least 1.
        rng: draws the first centres, on the CPU.
    """
    rows_ND = rows_ND.double().cpu()
    count, dims = rows_ND.shape
    components = max(1, min(components, count // (ROWS_PER_DIMENSION * dims)))
    pooled_D = rows_ND.var(dim=0, correction=0).clamp_min(LEAST_VARIANCE)
    mixture = _maximise(rows_ND, _clusters(rows_ND / pooled_D.sqrt(), components, rng), pooled_D)
    before = -math.inf
    for _ in range(MAX_STEPS):
        log_joint_NK = mixture.log_joint(rows_ND)
        likelihood = float(torch.logsumexp(log_joint_NK, dim=1).mean())
        if likelihood - before < TOLERANCE:
            break
        before = likelihood
        mixture = _maximise(rows_ND, torch.softmax(log_joint_NK, dim=1), pooled_D)
    return mixture


def _maximise(rows_ND: Tensor, shares_NK: Tensor, pooled_D: Tensor) -> Mixture:
    """The mixture that fits rows which belong to components in these shares."""
    shares_NK = shares_NK[:, shares_NK.sum(dim=0) >= 1.0] if len(shares_NK) > 1 else shares_NK
    counts_K = shares_NK.sum(dim=0)
    means_KD = shares_NK.T @ rows_ND / counts_K[:, None]
    scatter_KDD = torch.stack([_scatter(rows_ND, *part) for part in zip(shares_NK.T, means_KD, strict=True)])
    covariance_KDD = (scatter_KDD + PSEUDO_ROWS * torch.diag(pooled_D)) / (counts_K + PSEUDO_ROWS)[:, None, None]
    return Mixture(
        weights_K=counts_K / counts_K.sum(), means_KD=means_KD, factors_KDD=torch.linalg.cholesky(covariance_KDD)
    )


def _scatter(rows_ND: Tensor, shares_N: Tensor, mean_D: Tensor) -> Tensor:
    centred_ND = rows_ND - mean_D
    return (centred_ND * shares_N[:, None]).T @ centred_ND


def _clusters(rows_ND: Tensor, components: int, rng: torch.Generator) -> Tensor:
    """One-hot shares [N, K] by k-means from centres drawn as in k-means++ (Arthur & Vassilvitskii 2007)."""
    first = torch.randint(len(rows_ND), (1,), generator=rng)
    centres_KD = rows_ND[first]
    while len(centres_KD) < components:
        nearest_N = _distances(rows_ND, centres_KD).min(dim=1).values
        if not nearest_N.sum() > 0:
            break  # every row is a centre already
        centres_KD = torch.cat([centres_KD, rows_ND[torch.multinomial(nearest_N, 1, generator=rng)]])
    for _ in range(LLOYD_STEPS):
        shares_NK = torch.nn.functional.one_hot(_distances(rows_ND, centres_KD).argmin(dim=1), len(centres_KD)).double()
        counts_K = shares_NK.sum(dim=0)
        centres_KD = torch.where(counts_K[:, None] > 0, shares_NK.T @ rows_ND / counts_K[:, None], centres_KD)
    return shares_NK


def _distances(rows_ND: Tensor, centres_KD: Tensor) -> Tensor:
    """Squared distances [N, K]."""
    squares_NK = rows_ND.square().sum(dim=1)[:, None] - 2.0 * rows_ND @ centres_KD.T + centres_KD.square().sum(dim=1)
    return squares_NK.clamp_min(0.0)
