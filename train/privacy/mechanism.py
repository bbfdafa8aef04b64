"""The Gaussian mechanism, with the least noise that it allows, and noise that nobody can draw again.

Dwork & Roth 2014 define (ε, δ)-differential privacy; the calibration is the analytic one of Balle & Wang 2018, which
holds for every ε, where the classical formula needs ε below 1.
"""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 200
"""Of the interval of logarithms in which the noise is looked for: more than a float64 can tell apart."""


def gaussian_delta(noise: float, epsilon: float) -> float:
    """The least δ at which noise of this standard deviation is (ε, δ)-private, for a sensitivity of 1.

    Theorem 8 of Balle & Wang 2018: Φ(1/(2σ) − εσ) − e^ε Φ(−1/(2σ) − εσ).
    """
    shift, slope = 0.5 / noise, epsilon * noise
    return _normal_cdf(shift - slope) - math.exp(epsilon) * _normal_cdf(-shift - slope)


def gaussian_noise(epsilon: float, delta: float) -> float:
    """The least standard deviation that is (ε, δ)-private, per unit of L2 sensitivity; 0 < ε ≤ 100, 0 < δ < 1."""
    low, high = 1e-3, 1e9  # δ falls as the noise grows
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        if gaussian_delta(middle, epsilon) > delta:
            low = middle
        else:
            high = middle
    return high


def secret_normal(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal values, float64, by Box & Muller 1958 from the operating system's cryptographic generator.

    No seed makes them again: whoever could draw the noise again could subtract it.
    """
    pairs = (math.prod(shape) + 1) // 2
    integers = np.frombuffer(os.urandom(16 * pairs), "<u8").reshape(2, pairs)
    uniform = ((integers >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), never an end
    radius, angle = np.sqrt(-2.0 * np.log(uniform[0])), 2.0 * math.pi * uniform[1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return normal[: math.prod(shape)].reshape(shape)


def _normal_cdf(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))
