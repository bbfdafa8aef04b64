"""The accountant against the definition of differential privacy, by other means than it uses."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from gen_engine.engine.errors import BackendUnavailable
from gen_engine.train.errors import ConfigError
from gen_engine.train.privacy.accounting import epsilon_of, noise_multiplier
from gen_engine.train.privacy.mechanism import gaussian_delta

pytest.importorskip("opacus")

Array = NDArray[np.float64]


def density(x: Array, at: float, noise: float) -> Array:
    return np.exp(-((x - at) ** 2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))


def delta_of(epsilon: float, noise: float, rate: float, steps: int, *, added: bool) -> float:
    """δ at ε of T steps, in one direction: privacy losses on a grid, convolved T times, as their definition says.

    With an image more, a step's output is a mixture: with probability q the sum has grown by 1.
    """
    step = noise / 400
    x = np.arange(-60 * noise - 3, 60 * noise + 3, step)
    without, with_it = density(x, 0.0, noise), (1 - rate) * density(x, 0.0, noise) + rate * density(x, 1.0, noise)
    p, q = (with_it, without) if added else (without, with_it)
    kept = (p > 1e-300) & (q > 1e-300)
    losses, masses = np.log(p[kept] / q[kept]), p[kept] * step
    grid, half = 2e-4, 2**17  # losses of up to ±26
    at = np.clip(np.round(losses / grid).astype(int) + half, 0, 2 * half - 1)
    pmf = np.bincount(at, weights=masses, minlength=2 * half)
    total = np.fft.irfft(np.fft.rfft(np.fft.ifftshift(pmf)) ** steps, 2 * half)
    loss = np.fft.fftshift(np.arange(-half, half) * grid)
    above = loss > epsilon
    return float((total[above] * -np.expm1(epsilon - loss[above])).sum())


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [(1.0, 256 / 60000, 2000, 1e-5), (0.7, 0.01, 500, 1e-5), (3.0, 0.1, 300, 1e-4), (2.0, 0.2, 20, 1e-3)],
)
def test_epsilon_is_that_of_the_definition_in_both_directions(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    epsilon = epsilon_of(noise=noise, delta=delta, sampling_rate=rate, steps=steps)
    deltas = [delta_of(epsilon, noise, rate, steps, added=added) for added in (True, False)]
    assert max(deltas) <= delta * 1.01
    below = max(delta_of(epsilon * 0.97 - 0.02, noise, rate, steps, added=added) for added in (True, False))
    assert below > delta


@pytest.mark.parametrize(("noise", "steps", "delta"), [(2.0, 4, 1e-5), (10.0, 25, 1e-6)])
def test_without_sampling_it_is_one_gaussian_mechanism(noise: float, steps: int, delta: float) -> None:
    """T steps at q = 1 are one with noise σ/√T (Dong, Roth & Su 2022), whose δ has a closed form."""
    epsilon = epsilon_of(noise=noise, delta=delta, sampling_rate=1.0, steps=steps)
    assert gaussian_delta(noise / math.sqrt(steps), epsilon) <= delta
    assert gaussian_delta(noise / math.sqrt(steps), epsilon * 0.99 - 0.02) > delta


def test_it_is_the_published_value() -> None:
    """Abadi et al. 2016, section 5.2: q = 0.01, σ = 4, T = 10,000, δ = 1e-5 give ε ≈ 1.26, which is an upper bound."""
    epsilon = epsilon_of(noise=4.0, delta=1e-5, sampling_rate=0.01, steps=10_000)
    assert 0.9 < epsilon < 1.26


@pytest.mark.parametrize(
    ("epsilon", "delta", "rate", "steps"),
    [(10.0, 1e-5, 256 / 60000, 7000), (1.0, 1e-5, 256 / 60000, 7000), (0.1, 1e-6, 0.05, 100), (50.0, 1e-3, 0.2, 20)],
)
def test_the_least_noise_is_found(epsilon: float, delta: float, rate: float, steps: int) -> None:
    noise = noise_multiplier(epsilon=epsilon, delta=delta, sampling_rate=rate, steps=steps)
    assert epsilon_of(noise=noise, delta=delta, sampling_rate=rate, steps=steps) <= epsilon
    assert epsilon_of(noise=noise * 0.99, delta=delta, sampling_rate=rate, steps=steps) > epsilon


def test_more_steps_need_more_noise() -> None:
    found = [noise_multiplier(epsilon=2.0, delta=1e-5, sampling_rate=0.01, steps=steps) for steps in (10, 100, 1000)]
    assert found == sorted(found)


def test_a_delta_that_rounding_would_lose_is_refused() -> None:
    with pytest.raises(ConfigError, match="accounted for down to 1e-10"):
        noise_multiplier(epsilon=1.0, delta=1e-12, sampling_rate=0.01, steps=10)


def test_a_budget_that_no_noise_meets_is_refused() -> None:
    with pytest.raises(ConfigError, match="would need noise of more than 10,000 times its norm"):
        noise_multiplier(epsilon=0.001, delta=1e-9, sampling_rate=1.0, steps=10**9)


def test_without_opacus_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    noise_multiplier.cache_clear()
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'gen-engine\[privacy\]'"):
        noise_multiplier(epsilon=1.0, delta=1e-5, sampling_rate=0.01, steps=10)
