"""A variational autoencoder of tables, after TVAE (Xu et al. 2019, arXiv 1907.00503).

Encoder and decoder are perceptrons of a row's codes and class; every column has a softmax. The prior is logistic, not
normal, since its inverse distribution function is exact in a graph: the divergence from it is estimated by one sample.
Codes of rows do not fill the prior, those of a rare class least. So samples draw z from a mixture that is fitted to the
codes of each class (Ghosh et al. 2020, arXiv 1903.12436), of diagonal components.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from gen_engine.train.tables.alias import alias_tables
from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.model import Family, OnStep
from gen_engine.train.tables.networks.codes import SCALE, NetworkCodes, load_codes
from gen_engine.train.tables.networks.train import OutputLayer, Rows, array_of, layers_of, log_softmax, run_epochs
from gen_engine.train.tables.options import TableVaeOptions

LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE = -8.0, 4.0

CHUNK = 8192
"""Rows that are encoded at a time."""

PER_ROOT, MOST_CELLS = 0.8, 1 << 20
"""Components for the square root of a class's rows; cells of the alias tables of all classes."""


class Encoder(nn.Module):
    """Rows to the mean and the logarithm of the variance of z. The first layer adds up a column of weights per code."""

    def __init__(self, rows: Rows, options: TableVaeOptions) -> None:
        super().__init__()
        self.codes = nn.Embedding(rows.values, options.hidden)
        self.classes = nn.Embedding(rows.classes, options.hidden)
        nn.init.normal_(self.codes.weight, std=1 / math.sqrt(len(rows.sizes)))
        self.layer = nn.Linear(options.hidden, options.hidden)
        self.moments = nn.Linear(options.hidden, 2 * options.latent_dim)

    def forward(self, places_ND: Tensor, class_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the logarithm of the variance, [N, L] each."""
        value_NH = (self.codes(places_ND).sum(1) + self.classes(class_N)).relu()
        mean_NL, log_variance_NL = self.moments(self.layer(value_NH).relu()).chunk(2, dim=1)
        return mean_NL, log_variance_NL.clamp(LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE)


class Decoder(nn.Module):
    """z and the class to the logits of all codes."""

    def __init__(self, rows: Rows, options: TableVaeOptions) -> None:
        super().__init__()
        self.latents = nn.Linear(options.latent_dim, options.hidden, bias=False)
        self.classes = nn.Embedding(rows.classes, options.hidden)
        nn.init.zeros_(self.classes.weight)
        self.layer = nn.Linear(options.hidden, options.hidden)
        self.out = OutputLayer(options.hidden, rows)

    def forward(self, z_NL: Tensor, class_N: Tensor) -> Tensor:
        """Return logits [N, P]."""
        value_NH = (self.latents(z_NL) + self.classes(class_N)).relu()
        logits_NP: Tensor = self.out(self.layer(value_NH).relu())
        return logits_NP


def fit_codes(coded: Coded, options: TableVaeOptions, on_step: OnStep) -> tuple[NetworkCodes, dict[str, float]]:
    """Train on coded rows; return the decoder, and the losses of the last epoch in nats per row.

    Raises:
        TrainingDiverged: a loss is not finite.
        BackendUnavailable: the device is not there.
    """
    rows = Rows(coded, options.device, options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        encoder, decoder = Encoder(rows, options).to(rows.device), Decoder(rows, options).to(rows.device)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    adam = torch.optim.Adam(parameters, lr=options.lr, weight_decay=1e-5)

    def epoch() -> Mapping[str, float]:
        sums, steps = torch.zeros(2, device=rows.device), 0
        for chosen in rows.batches(options.batch):
            losses = _losses(encoder, decoder, rows, chosen)
            adam.zero_grad()
            torch.autograd.backward(losses[0] + options.beta * losses[1])
            adam.step()
            sums, steps = sums + torch.stack(losses).detach(), steps + 1
        reconstruction, divergence = (sums / steps).tolist()
        return {"reconstruction": reconstruction, "divergence": divergence}

    figures = run_epochs(options.epochs, epoch, on_step)
    first = array_of(decoder.latents.weight)
    arrays = {"latents_HL": first, "class_YH": array_of(decoder.classes.weight)}
    arrays |= _mixtures(_latents(encoder, rows), rows, first, options.seed)
    return NetworkCodes(arrays=arrays | layers_of([decoder.layer, decoder.out]), sizes=rows.sizes), figures


@torch.no_grad()
def _latents(encoder: Encoder, rows: Rows) -> NDArray[np.float64]:
    """Return a draw of z for every row, [N, L]."""
    made = []
    for places_ND, class_N in zip(torch.split(rows.places_ND, CHUNK), torch.split(rows.class_N, CHUNK), strict=True):
        mean_NL, log_variance_NL = encoder(places_ND, class_N)
        noise_NL = torch.randn(mean_NL.shape, generator=rows.generator).to(rows.device)
        made.append((mean_NL + noise_NL * (0.5 * log_variance_NL).exp()).cpu())
    return torch.cat(made).double().numpy()


def _mixtures(
    z_NL: NDArray[np.float64], rows: Rows, first_HL: NDArray[np.float32], seed: int
) -> dict[str, NDArray[Any]]:
    """Return the conditions that a mixture of each class's z is: what a component adds to the first layer, and scales.

    A component is logistic with the moments of a normal one that is fitted by expectation-maximisation.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    class_N = rows.class_N.cpu().numpy()
    fits = []
    most = max(1, MOST_CELLS // rows.classes**2)
    for one in range(rows.classes):
        of_class = z_NL[class_N == one]
        count = min(max(1, round(PER_ROOT * math.sqrt(len(of_class)))), most, len(of_class))
        mixture = GaussianMixture(count, covariance_type="diag", reg_covar=1e-4, max_iter=50, random_state=seed % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 50 steps are as good as convergence here
            fits.append(mixture.fit(of_class if len(of_class) > 1 else np.repeat(of_class, 2, axis=0)))
    weights_YC = np.zeros((rows.classes, sum(len(fit.weights_) for fit in fits)))
    at = 0
    for weights_C, fit in zip(weights_YC, fits, strict=True):
        weights_C[at : at + len(fit.weights_)] = fit.weights_
        at += len(fit.weights_)
    keep_YC, alias_YC = alias_tables(weights_YC)
    means_CL = np.concatenate([fit.means_ for fit in fits])
    variances_CL = np.concatenate([fit.covariances_ for fit in fits])
    return {
        "condition_CH": np.ascontiguousarray(means_CL @ first_HL.T.astype(np.float64), np.float32),
        SCALE: np.ascontiguousarray(np.sqrt(3 * variances_CL) / np.pi, np.float32),  # a logistic's variance is π² / 3
        "condition_keep_YC": keep_YC,
        "condition_alias_YC": alias_YC,
    }


def _losses(encoder: Encoder, decoder: Decoder, rows: Rows, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the reconstruction loss and the estimated divergence of a batch, in nats per row."""
    places_ND, class_N = rows.places_ND[chosen], rows.class_N[chosen]
    mean_NL, log_variance_NL = encoder(places_ND, class_N)
    noise_NL = torch.randn(mean_NL.shape, generator=rows.generator).to(rows.device)
    z_NL = mean_NL + noise_NL * (0.5 * log_variance_NL).exp()
    log_NP = log_softmax(decoder(z_NL, class_N), rows)
    reconstruction = -log_NP.gather(1, places_ND).sum(1).mean()
    log_posterior = -0.5 * (noise_NL**2 + log_variance_NL + math.log(2 * math.pi))
    log_prior = -z_NL - 2 * softplus(-z_NL)  # of the logistic distribution
    return reconstruction, (log_posterior - log_prior).sum(1).mean()


TABLE_VAE = Family(fit=fit_codes, load=load_codes, options=TableVaeOptions)
