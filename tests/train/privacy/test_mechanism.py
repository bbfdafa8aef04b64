"""The calibration against values computed in other ways, and noise of the right size that no seed repeats."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gen_engine.train.privacy.mechanism import gaussian_delta, gaussian_noise, secret_normal


@pytest.mark.parametrize(
    ("epsilon", "delta", "noise"),
    [
        (1.0, 1e-5, 3.73063163),
        (10.0, 1e-5, 0.49988862),
        (0.1, 1e-5, 30.7495661),
        (1.0, 1e-6, 4.22467889),
        (50.0, 1e-5, 0.149760608),
        (math.log(3.0), 1e-5, 3.4246624),
    ],
)
def test_the_noise_is_that_of_the_definition(epsilon: float, delta: float, noise: float) -> None:
    """Values by quadrature of the definition below in 40 digits; the first is also what the paper's own code prints."""
    assert gaussian_noise(epsilon, delta) == pytest.approx(noise, rel=1e-7)


@pytest.mark.parametrize("epsilon", [1e-3, 0.2, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.1])
def test_no_smaller_noise_meets_delta(epsilon: float, delta: float) -> None:
    noise = gaussian_noise(epsilon, delta)
    assert gaussian_delta(noise, epsilon) <= delta < gaussian_delta(noise * 0.999, epsilon)


@pytest.mark.parametrize(("noise", "epsilon"), [(3.7, 1.0), (0.5, 10.0), (1.0, 0.0)])
def test_delta_is_the_hockey_stick_divergence_of_two_normal_distributions(noise: float, epsilon: float) -> None:
    """By its definition: the integral of max(0, p − e^ε q), with p and q one apart."""
    x = np.linspace(-60.0, 60.0, 2_000_001)
    p, q = (np.exp(-((x - at) ** 2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi)) for at in (1.0, 0.0))
    integral = np.maximum(p - math.exp(epsilon) * q, 0.0).sum() * (x[1] - x[0])
    assert gaussian_delta(noise, epsilon) == pytest.approx(integral, rel=1e-3, abs=1e-12)


def test_it_is_below_the_classical_formula() -> None:
    """Dwork & Roth 2014, theorem A.1, which holds below ε = 1."""
    assert gaussian_noise(0.9, 1e-5) < math.sqrt(2 * math.log(1.25 / 1e-5)) / 0.9


def test_noise_is_standard_normal() -> None:
    normal = secret_normal((7, 50_001))
    assert normal.shape == (7, 50_001)
    assert normal.dtype == np.float64
    assert abs(normal.mean()) < 0.01
    assert normal.std() == pytest.approx(1.0, abs=0.01)
    assert (np.abs(normal) > 1.959964).mean() == pytest.approx(0.05, abs=0.003)
    assert abs(np.corrcoef(normal[0], normal[-1])[0, 1]) < 0.03


def test_no_seed_repeats_the_noise() -> None:
    drawn = []
    for _ in range(2):
        np.random.seed(0)
        torch.manual_seed(0)
        drawn.append(secret_normal((5,)))
    assert not np.array_equal(*drawn)
