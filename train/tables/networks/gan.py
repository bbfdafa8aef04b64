"""A conditional Wasserstein GAN of tables, after CTGAN (Xu et al. 2019, arXiv 1907.00503).

The generator makes a softmax per column, sampled by the Gumbel trick while training (Jang et al. 2017). A condition
names one code of one column: real rows are drawn that have it, frequent codes by the logarithm of their frequency, and
the generator is told it and pays for other codes there. The critic sees packs of rows (Lin et al. 2018), with a penalty
on its gradient (Gulrajani et al. 2017). Samples draw conditions by their frequencies in the class.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gen_engine.train.tables.alias import alias_tables
from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.model import Family, OnStep
from gen_engine.train.tables.networks.codes import NetworkCodes, load_codes
from gen_engine.train.tables.networks.train import (
    OutputLayer,
    Rows,
    array_of,
    by_group,
    layers_of,
    log_softmax,
    run_epochs,
)
from gen_engine.train.tables.options import TableGanOptions

TEMPERATURE = 0.2
"""Of the Gumbel softmax."""


class Generator(nn.Module):
    """z, class and condition to the logits of all codes."""

    def __init__(self, rows: Rows, options: TableGanOptions) -> None:
        super().__init__()
        hidden = options.hidden
        self.latents = nn.Linear(options.latent_dim, hidden, bias=False)
        nn.init.normal_(self.latents.weight, std=0.5 / options.latent_dim**0.5)
        self.classes, self.conditions = nn.Embedding(rows.classes, hidden), nn.Embedding(rows.values, hidden)
        nn.init.normal_(self.classes.weight, std=0.5)
        nn.init.normal_(self.conditions.weight, std=0.5)
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(2))
        self.layer = nn.Linear(hidden, hidden)
        self.out = OutputLayer(hidden, rows)

    def forward(self, z_NL: Tensor, class_N: Tensor, place_N: Tensor) -> Tensor:
        """Return logits [N, P]; `place_N` are the codes that are asked for."""
        value_NH = self.latents(z_NL) + self.classes(class_N) + self.conditions(place_N)
        value_NH = self.layer(self.norms[0](value_NH).relu())
        logits_NP: Tensor = self.out(self.norms[1](value_NH).relu())
        return logits_NP


class Critic(nn.Module):
    """Packs of rows, with their classes and conditions, to a number each."""

    def __init__(self, rows: Rows, options: TableGanOptions) -> None:
        super().__init__()
        self.pack = options.pack
        width = options.pack * (2 * rows.values + rows.classes)
        layers: list[nn.Module] = []
        for size in (width, options.hidden):
            layers += [nn.Linear(size, options.hidden), nn.LeakyReLU(0.2), nn.Dropout(0.5)]
        self.layers = nn.Sequential(*layers, nn.Linear(options.hidden, 1))

    def forward(self, rows_NR: Tensor) -> Tensor:
        """Return [N ÷ pack, 1]."""
        judged: Tensor = self.layers(rows_NR.reshape(len(rows_NR) // self.pack, -1))
        return judged


class Conditions:
    """Which code of which column a row is asked for, and rows that have it.

    Args:
        rows: the table.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        places_ND = rows.places_ND.cpu().numpy()
        self._order_DN = np.argsort(places_ND, axis=0, kind="stable").T
        sorted_DN = np.take_along_axis(places_ND.T, self._order_DN, axis=1)
        self._counts_P = np.bincount(places_ND.ravel(), minlength=rows.values)
        self._first_P = np.zeros(rows.values, np.int64)
        self._places: list[NDArray[np.int64]] = []
        self._log_shares: list[NDArray[np.float64]] = []
        for column in sorted_DN:
            places, first = np.unique(column, return_index=True)
            self._first_P[places] = first
            weights = np.log1p(self._counts_P[places])
            self._places.append(places)
            self._log_shares.append(np.cumsum(weights / weights.sum()))

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return places of codes, their columns, and a random row that has each, int64 [count] each."""
        uniforms_3N = self._rows.random(3, count).cpu().numpy().astype(np.float64)
        column_N = (uniforms_3N[0] * len(self._places)).astype(np.int64)
        place_N, row_N = np.empty(count, np.int64), np.empty(count, np.int64)
        for column in np.unique(column_N).tolist():
            at = np.flatnonzero(column_N == column)
            found = np.searchsorted(self._log_shares[column], uniforms_3N[1, at])
            place_N[at] = self._places[column][np.minimum(found, len(self._places[column]) - 1)]
            inside = (uniforms_3N[2, at] * self._counts_P[place_N[at]]).astype(np.int64)
            row_N[at] = self._order_DN[column, self._first_P[place_N[at]] + inside]
        place, column, row = (torch.from_numpy(one).to(self._rows.device) for one in (place_N, column_N, row_N))
        return place, column, row

    def tables(self) -> dict[str, NDArray[np.generic]]:
        """Return alias tables of the codes by their frequencies in each class: a column at random, then its code."""
        places_ND, class_N = self._rows.places_ND.cpu().numpy(), self._rows.class_N.cpu().numpy()
        weights_YP = np.stack(
            [
                np.bincount(places_ND[class_N == one].ravel(), minlength=self._rows.values)
                for one in range(self._rows.classes)
            ]
        )
        keep_YP, alias_YP = alias_tables(weights_YP.astype(np.float64))
        return {"condition_keep_YC": keep_YP, "condition_alias_YC": alias_YP}


class _Game:
    """The players and one step of each."""

    def __init__(self, rows: Rows, options: TableGanOptions) -> None:
        self.rows, self.options, self.conditions = rows, options, Conditions(rows)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.generator = Generator(rows, options).to(rows.device)
            self.critic = Critic(rows, options).to(rows.device)
        self._of_generator, self._of_critic = (
            torch.optim.Adam(one.parameters(), lr=options.lr, betas=(0.5, 0.9), weight_decay=decay)
            for one, decay in ((self.generator, 1e-6), (self.critic, 0.0))
        )

    def step(self, count: int) -> Tensor:
        """Return the critic's distance, its penalty, and the loss of the conditions, [3]."""
        distance, penalty = self._train_critic(count)
        return torch.stack([distance, penalty, self._train_generator(count)])

    def _made(self, place_N: Tensor, class_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows of softmax values, [N, P], and the logarithms of their probabilities."""
        z_NL = self.rows.logistic(len(place_N), self.options.latent_dim)
        log_NP = log_softmax(self.generator(z_NL, class_N, place_N), self.rows)
        gumbel_NP = -(-self.rows.random(*log_NP.shape).log()).log()
        parts = [(part / TEMPERATURE).softmax(2).flatten(1) for part in by_group(log_NP + gumbel_NP, self.rows)]
        return torch.cat(parts, dim=1), log_NP

    def _with(self, rows_NP: Tensor, place_N: Tensor, class_N: Tensor) -> Tensor:
        asked_NP = one_hot(place_N, self.rows.values).to(rows_NP.dtype)
        return torch.cat([rows_NP, asked_NP, one_hot(class_N, self.rows.classes).to(rows_NP.dtype)], dim=1)

    def _train_critic(self, count: int) -> tuple[Tensor, Tensor]:
        place_N, _, row_N = self.conditions.draw(count)
        class_N = self.rows.class_N[row_N]
        real_NP = torch.zeros(count, self.rows.values, device=self.rows.device)
        real_NP.scatter_(1, self.rows.places_ND[row_N], 1.0)
        with torch.no_grad():
            made_NP, _ = self._made(place_N, class_N)
        real, made = (self._with(one, place_N, class_N) for one in (real_NP, made_NP))
        distance = self.critic(real).mean() - self.critic(made).mean()
        penalty = self._penalty(real, made)
        self._of_critic.zero_grad()
        torch.autograd.backward(penalty - distance)
        self._of_critic.step()
        return distance.detach(), penalty.detach()

    def _penalty(self, real: Tensor, made: Tensor) -> Tensor:
        pack = self.options.pack
        mix = self.rows.random(len(real) // pack, 1).repeat_interleave(pack, dim=0)
        between = (mix * real + (1 - mix) * made).requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        norm = gradient.reshape(len(gradient) // pack, -1).norm(dim=1)
        penalty: Tensor = self.options.gradient_penalty * ((norm - 1) ** 2).mean()
        return penalty

    def _train_generator(self, count: int) -> Tensor:
        place_N, _, row_N = self.conditions.draw(count)
        class_N = self.rows.class_N[row_N]
        made_NP, log_NP = self._made(place_N, class_N)
        asked = -log_NP.gather(1, place_N[:, None]).mean()
        loss = asked - self.critic(self._with(made_NP, place_N, class_N)).mean()
        self._of_generator.zero_grad()
        torch.autograd.backward(loss)
        self._of_generator.step()
        return asked.detach()


def fit_codes(coded: Coded, options: TableGanOptions, on_step: OnStep) -> tuple[NetworkCodes, dict[str, float]]:
    """Train on coded rows; return the generator, and the losses of the last epoch.

    Raises:
        TrainingDiverged: a loss is not finite.
        BackendUnavailable: the device is not there.
    """
    rows = Rows(coded, options.device, options.seed)
    game = _Game(rows, options)
    count = max(options.batch // options.pack, 1 + (options.pack == 1)) * options.pack  # a norm needs two rows
    steps = max(1, len(rows) // count)

    def epoch() -> Mapping[str, float]:
        sums = torch.stack([game.step(count) for _ in range(steps)]).mean(0)
        return dict(zip(("distance", "penalty", "condition"), sums.tolist(), strict=True))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed + 1)  # dropout has no generator of its own
        figures = run_epochs(options.epochs, epoch, on_step)
    return NetworkCodes(arrays=_arrays(game.generator, game.conditions), sizes=rows.sizes), figures


def _arrays(generator: Generator, conditions: Conditions) -> dict[str, NDArray[np.generic]]:
    """Return the layers with their normalisation folded in."""
    (scale0, shift0), (scale1, shift1) = (_affine(norm) for norm in generator.norms)
    folded = nn.Linear(generator.layer.in_features, generator.layer.out_features)
    with torch.no_grad():
        folded.weight.copy_(generator.layer.weight * scale1[:, None])
        folded.bias.copy_(generator.layer.bias * scale1 + shift1)
    return {
        "latents_HL": array_of(generator.latents.weight * scale0[:, None]),
        "class_YH": array_of(generator.classes.weight * scale0 + shift0),
        "condition_CH": array_of(generator.conditions.weight * scale0),
        **conditions.tables(),
        **layers_of([folded, generator.out]),
    }


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the scale and shift that a batch normalisation is in evaluation."""
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale: Tensor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


TABLE_GAN = Family(fit=fit_codes, load=load_codes, options=TableGanOptions)
