"""Fitting a generator's prior to the codes of the training images, whenever it is to be saved or shown.

The fit is a function of the networks, the data and the seed, and training does not read it: when it was fitted before
makes no difference to a run.

Legend: N images, B batch, D dimensions of a code, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_engine.engine.base.levels import from_levels
from gen_engine.train.models.prior import PriorGenerator
from gen_engine.train.runs.state import RunState

MOST_IMAGES = 100_000
"""Images that a prior is fitted to at most, evenly spaced in the data."""

_ENCODED = 500


def fit_prior(state: RunState, images_NCHW: Tensor, labels_N: Tensor | None) -> None:
    """Fit the prior of the generator and of its average; nothing if they have none.

    Args:
        state: its encoder makes the codes: a draw from the posterior of each image.
        images_NCHW: uint8, as trained on.
        labels_N: int64, None for an unconditional model.
    """
    if not isinstance(state.generator, PriorGenerator):
        return
    codes_ND, labels_N = _encode(state, images_NCHW, labels_N)
    if not codes_ND.isfinite().all():
        return  # the loop ends a run that has diverged
    state.generator.prior.fit(codes_ND, labels_N, state.config.seed)
    average = state.averaged_generator
    assert isinstance(average, PriorGenerator)
    average.prior.load_state_dict(state.generator.prior.state_dict())


@torch.no_grad()
def _encode(state: RunState, images_NCHW: Tensor, labels_N: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Codes, float32 [N, D], and labels, on the CPU."""
    stride = -(-len(images_NCHW) // MOST_IMAGES)
    images_NCHW, device = images_NCHW[::stride], state.config.device
    labels_N = None if labels_N is None else labels_N[::stride]
    rng = torch.Generator().manual_seed(state.config.seed)
    was_training = state.auxiliary.training
    state.auxiliary.eval()
    codes = []
    for at in range(0, len(images_NCHW), _ENCODED):
        images_BCHW = from_levels(images_NCHW[at : at + _ENCODED].to(device).float())
        labels_B = None if labels_N is None else labels_N[at : at + _ENCODED].to(device)
        mean_BD, log_variance_BD = state.auxiliary(images_BCHW, labels_B)
        noise_BD = torch.randn(mean_BD.shape, generator=rng)
        codes.append(mean_BD.cpu() + noise_BD * (0.5 * log_variance_BD).exp().cpu())
    state.auxiliary.train(was_training)
    return torch.cat(codes), None if labels_N is None else labels_N.cpu()
