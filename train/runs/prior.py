"""Fitting a generator's prior to the codes of the training images, whenever it is to be saved or shown.

The fit is a function of the networks, the data and the seed, and training does not read it: when it was fitted before
makes no difference to a run.

Legend: N images, B batch, D dimensions of a code.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gen_engine.engine.base.levels import from_levels
from gen_engine.train.models.prior import PriorGenerator
from gen_engine.train.runs.rows import Rows
from gen_engine.train.runs.state import RunState

MOST_IMAGES = 100_000
"""Images that a prior is fitted to at most, evenly spaced in the data."""

_ENCODED = 500


def fit_prior(state: RunState, rows: Rows) -> None:
    """Fit the prior of the generator and of its average; nothing if they have none.

    Args:
        state: its encoder makes the codes: a draw from the posterior of each image.
        rows: the images, as trained on, and their labels, None for an unconditional model.
    """
    if not isinstance(state.generator, PriorGenerator):
        return
    codes_ND, labels_N = _encode(state, rows)
    if not codes_ND.isfinite().all():
        return  # the loop ends a run that has diverged
    state.generator.prior.fit(codes_ND, labels_N, state.config.seed)
    average = state.averaged_generator
    assert isinstance(average, PriorGenerator)
    average.prior.load_state_dict(state.generator.prior.state_dict())


@torch.no_grad()
def _encode(state: RunState, rows: Rows) -> tuple[Tensor, Tensor | None]:
    """Codes, float32 [N, D], and labels, on the CPU."""
    chosen_N, device = np.arange(0, len(rows), -(-len(rows) // MOST_IMAGES)), state.config.device
    rng = torch.Generator().manual_seed(state.config.seed)
    was_training = state.auxiliary.training
    state.auxiliary.eval()
    codes = []
    for at in range(0, len(chosen_N), _ENCODED):
        rows_B = chosen_N[at : at + _ENCODED]
        images_BCHW = from_levels(rows.images(rows_B).to(device).float())
        labels_B = rows.labels(rows_B)
        mean_BD, log_variance_BD = state.auxiliary(images_BCHW, None if labels_B is None else labels_B.to(device))
        noise_BD = torch.randn(mean_BD.shape, generator=rng)
        codes.append(mean_BD.cpu() + noise_BD * (0.5 * log_variance_BD).exp().cpu())
    state.auxiliary.train(was_training)
    labels_N = rows.labels(chosen_N)
    return torch.cat(codes), None if labels_N is None else labels_N.cpu()
