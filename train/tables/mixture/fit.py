"""A mixture of products for each class, fitted to coded rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.classes import components_of, split
from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.mixture import em
from gen_engine.train.tables.mixture.codes import MixtureCodes, load_codes, pack_cells, pack_components
from gen_engine.train.tables.model import Family, OnStep
from gen_engine.train.tables.options import MixtureOptions

MOST_CELLS = 1 << 27
"""Probabilities of a model, over all components: 5 bytes each in a bundle."""


def fit_codes(coded: Coded, options: MixtureOptions, on_step: OnStep) -> tuple[MixtureCodes, dict[str, float]]:
    """Return the mixtures of coded rows, and figures of the fit.

    Raises:
        ConfigError: there are more components than one file can hold.
    """
    sizes = [one.codes for one in coded.specs]
    counts = [len(rows) for rows in coded.classes.rows_Y]
    components = components_of(counts, options.components)
    cells = sum(components) * sum(sizes)
    if cells > MOST_CELLS:
        most = MOST_CELLS // sum(sizes)
        raise ConfigError(
            f"{sum(components):,} components of {sum(sizes):,} codes are {cells:,} probabilities, and at most "
            f"{MOST_CELLS:,} are fitted: give --components {most} or fewer"
        )
    rng = np.random.Generator(np.random.PCG64([options.seed, 2]))
    fits = []
    for name, rows, count in zip(coded.classes.names, coded.classes.rows_Y, components, strict=True):
        codes_ND = coded.codes_ND[rows]
        fitted, held = split(np.arange(len(rows)), rng)
        fits.append(
            em.fit(
                em.Rows(codes_ND[fitted], sizes),
                torch.from_numpy(_frequencies(codes_ND, sizes)),
                count,
                smoothing=options.smoothing,
                steps=options.em_steps,
                seed=options.seed,
                held_out=em.Rows(codes_ND[held], sizes) if len(held) else None,
                on_step=lambda step, value, name=name: on_step(step, {f"log likelihood {name}".strip(): value}),  # type: ignore[misc]
            )
        )
    arrays = pack_cells(sizes, [one.frequencies_SC.numpy() for one, _ in fits])
    arrays |= pack_components([one.weights_C.numpy() for one, _ in fits])
    figures = _figures([one for _, one in fits], coded.classes.shares, [len(one.weights_C) for one, _ in fits])
    return MixtureCodes(arrays=arrays), figures


def _frequencies(codes_ND: NDArray[np.int32], sizes: Sequence[int]) -> NDArray[np.float64]:
    """The frequencies of a class: of all columns' codes, float64 [S]."""
    parts = [np.bincount(codes_ND[:, place], minlength=size) for place, size in enumerate(sizes)]
    made: NDArray[np.float64] = np.concatenate(parts) / len(codes_ND)
    return made


def _figures(fits: Sequence[em.Fit], shares: Sequence[float], components: Sequence[int]) -> dict[str, float]:
    """Means over the classes, weighted by their shares."""
    figures = {
        "components": float(sum(components)),
        "steps": float(max(one.steps for one in fits)),
        "log_likelihood": sum(one.log_likelihood * share for one, share in zip(fits, shares, strict=True)),
    }
    held = [(one.held_out, share) for one, share in zip(fits, shares, strict=True) if one.held_out is not None]
    if held:
        figures["log_likelihood_held_out"] = sum(v * share for v, share in held) / sum(share for _, share in held)
    return figures


MIXTURE = Family(fit=fit_codes, load=load_codes, options=MixtureOptions)
