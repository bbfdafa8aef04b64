"""A variational autoencoder of tables, after TVAE (Xu et al. 2019, arXiv 1907.00503).

Encoder and decoder are perceptrons of a row's codes and class; every column has a softmax. The prior is logistic, not
normal, since its inverse distribution function is exact in a graph: the divergence from it is estimated by one sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.model import Family, OnStep
from gen_engine.train.tables.networks.codes import NetworkCodes, load_codes
from gen_engine.train.tables.networks.train import OutputLayer, Rows, array_of, layers_of, log_softmax, run_epochs
from gen_engine.train.tables.options import TableVaeOptions

LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE = -8.0, 4.0


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
    arrays = {"latents_HL": array_of(decoder.latents.weight), "class_YH": array_of(decoder.classes.weight)}
    return NetworkCodes(arrays=arrays | layers_of([decoder.layer, decoder.out]), sizes=rows.sizes), figures


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
