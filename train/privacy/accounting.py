"""How much noise the steps of DP-SGD need, by Opacus' accountants.

A step takes each image with probability q, adds their clipped gradients, and adds Gaussian noise of σ times the
clipping norm (Abadi et al. 2016). T steps are accounted for by numerical composition of their privacy losses (PRV;
Gopi, Lee & Wutschitz 2021), whose upper bound is taken. Neighbours are data sets of which one has an image more.

PRV is computed in float64 by Fourier transforms. The older bound by Rényi divergences (Mironov, Talwar & Zhang 2019) is
looser and needs none: it says where to look, and PRV is believed only down to half of the noise that it asks for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from gen_engine.engine.errors import BackendUnavailable
from gen_engine.train.errors import ConfigError

MIN_DELTA = 1e-10
"""Smaller ones are lost in the rounding of the Fourier transforms."""

MAX_NOISE = 1e4
"""Noise multiplier beyond which nothing could be learned from a gradient."""

_ORDERS = [1.0 + x / 4.0 for x in range(1, 40)] + [*range(11, 64, 2), 96, 128, 192, 256, 384, 512, 768, 1024]


@lru_cache(maxsize=16)
def noise_multiplier(*, epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The noise in units of the clipping norm, to about 1 in 1,000, with which all steps are (ε, δ)-private.

    Args:
        epsilon: ε, more than 0.
        delta: δ, at least `MIN_DELTA`.
        sampling_rate: probability q of each image to be in a step, above 0 and at most 1.
        steps: T, at least 1.

    Raises:
        ConfigError: δ is too small, or no noise below `MAX_NOISE` is enough.
        BackendUnavailable: Opacus is not installed.
    """
    if delta < MIN_DELTA:
        raise ConfigError(f"dp-delta is {delta:g}: --dp-mechanism gan is accounted for down to {MIN_DELTA:g}")

    def is_surely_private(noise: float) -> bool:
        return _renyi_epsilon(noise, delta, sampling_rate, steps) <= epsilon

    enough = _least(1e-2, MAX_NOISE, 1.02, is_surely_private)
    if enough is None:
        raise ConfigError(
            f"dp-epsilon is {epsilon:g}: {steps:,} steps of a gradient would need noise of more than {MAX_NOISE:,.0f} "
            f"times its norm. Raise it, or lower --epochs or --batch"
        )

    def is_private(noise: float) -> bool:
        return epsilon_of(noise=noise, delta=delta, sampling_rate=sampling_rate, steps=steps) <= epsilon

    tighter = _least(enough / 2.0, enough, 1.001, is_private)
    return enough if tighter is None else tighter


def epsilon_of(*, noise: float, delta: float, sampling_rate: float, steps: int) -> float:
    """An upper bound of ε, as `noise_multiplier` counts it, of this many steps; at most that by Rényi divergences."""
    accountant = _opacus().PRVAccountant()
    accountant.history = [(noise, sampling_rate, steps)]
    renyi = _renyi_epsilon(noise, delta, sampling_rate, steps)
    try:
        with _without_warnings():
            bound = float(accountant.get_epsilon(delta=delta, eps_error=min(0.01, max(renyi / 100.0, 1e-4))))
    except (ValueError, RuntimeError):  # Opacus, where rounding would decide
        return renyi
    return min(bound, renyi) if np.isfinite(bound) and bound > 0.0 else renyi


def _renyi_epsilon(noise: float, delta: float, sampling_rate: float, steps: int) -> float:
    accountant = _opacus().RDPAccountant()
    accountant.history = [(noise, sampling_rate, steps)]
    with _without_warnings():
        epsilon = float(accountant.get_epsilon(delta=delta, alphas=_ORDERS))
    return epsilon if np.isfinite(epsilon) else float("inf")


def _least(low: float, high: float, factor: float, enough: Callable[[float], bool]) -> float | None:
    """The least number from low to high that is enough, or one larger by less than a factor; None if high is not."""
    if not enough(high):
        return None
    if enough(low):
        return low
    while high / low > factor:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Warnings off: of log(0) at the ends of a grid, and of orders that could be tighter."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _opacus() -> Any:
    """The module of Opacus' accountants; BackendUnavailable with what to install."""
    try:
        from opacus import accountants
    except ImportError as error:
        raise BackendUnavailable(
            "--dp-mechanism gan needs Opacus: pip install 'gen-engine[privacy]', or use --dp-mechanism mean-embedding"
        ) from error
    return accountants
