"""The accuracy gate: is a compiled variant still the generator it was made from?

A variant and the canonical fp32 graph draw the same fresh samples, and the two sets are compared value by value. Since
single values do not describe a distribution, the gate also checks whether the variant's samples are farther from a
second, independent fp32 set than fp32's own are, by the Fréchet distance (Dowson & Landau 1982) between the sets'
feature statistics. Features come from a fixed random convolution: no trained network is needed to distinguish two
sets.

Shape suffixes: N samples, D values per sample, F features.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 255.0
"""Levels of the range: those of pixels; the range of other samples, fp32's minimum to its maximum, is divided alike."""

FEATURES = 48
"""Numbers that describe one sample: far fewer than the samples of a set, so that the covariance is well estimated."""

_SEED = 20_240_229
_PATCH = 48
"""Adjacent values that a feature depends on."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """By how much a variant may differ. A figure equal to its limit passes."""

    psnr: float
    """Minimum peak signal-to-noise ratio, dB."""

    values_off: float
    """Largest share of values off by more than one level of 255, 0 to 1."""

    max_error: float
    """Largest difference of any value, in levels."""

    set_distance: float
    """Largest distance of the sets, relative to that of two fp32 sets."""


LIMITS = {
    "fp32": Limits(psnr=60.0, values_off=0.0, max_error=1.0, set_distance=1.02),
    "tf32": Limits(psnr=45.0, values_off=0.03, max_error=24.0, set_distance=1.1),
    "fp16": Limits(psnr=45.0, values_off=0.03, max_error=24.0, set_distance=1.1),
    "bf16": Limits(psnr=40.0, values_off=0.05, max_error=48.0, set_distance=1.1),
    "int8": Limits(psnr=28.0, values_off=0.6, max_error=128.0, set_distance=1.25),
    "fp8": Limits(psnr=28.0, values_off=0.6, max_error=128.0, set_distance=1.25),
}
"""The defaults. fp32 may differ by a rounding at a half level; bf16's seven bits of mantissa move a few values in a
hundred by two levels, more at an edge. int8 and fp8 differ visibly: they are used on request only."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the gate measured, and what it missed."""

    samples: int
    """Samples compared value by value."""

    psnr: float | None
    """dB; None for equal sets, whose ratio is infinite."""

    values_off: float
    max_error: float
    set_distance: float
    limits: Limits

    failures: tuple[str, ...]
    """A sentence for each limit that was missed; empty: the variant passed."""

    @property
    def passed(self) -> bool:
        """True if no limit was missed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return the figures and limits as the variant's record keeps them."""
        record = dataclasses.asdict(self) | {"passed": self.passed, "failures": list(self.failures)}
        return {key: round(v, 6) if isinstance(v, float) else v for key, v in record.items()}


MOST_DIFFERING = 1e-4
"""Share of a table's values that may differ. A draw by a sum of a network's probabilities falls to its other side where
the sum is rounded otherwise; look-ups alone are equal."""


@dataclass(frozen=True, kw_only=True)
class ColumnComparison:
    """What the gate measured of a table."""

    samples: int
    """Rows compared value by value."""

    differing: float
    """Share of the values that differ, by whatever little."""

    limit: float
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True if no limit was missed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return the figures and the limit as the variant's record keeps them."""
        return {
            "samples": self.samples,
            "values_differing": self.differing,
            "limit": self.limit,
            "passed": self.passed,
            "failures": list(self.failures),
        }


def compare_columns(
    reference: Mapping[str, NDArray[Any]], variant: Mapping[str, NDArray[Any]], limit: float = MOST_DIFFERING
) -> ColumnComparison:
    """Compare the rows that a variant makes of some latents with those that fp32 makes of them.

    Args:
        reference: columns [N].
        variant: the same.
        limit: share of the values that may differ.
    """
    unequal = {name: ~equal_values(values, variant[name]) for name, values in reference.items()}
    differing = float(np.mean([mask.mean() for mask in unequal.values()]))
    failures = []
    if differing > limit:
        worst = max(unequal, key=lambda name: float(unequal[name].mean()))
        failures.append(
            f"{100 * differing:.3g} % of the values differ, {100 * limit:g} % are allowed; "
            f"most in column {worst!r}, {100 * unequal[worst].mean():.3g} %"
        )
    rows = len(next(iter(reference.values())))
    return ColumnComparison(samples=rows, differing=differing, limit=limit, failures=tuple(failures))


def equal_values(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where values are equal, bool [N]; NaN, a missing value, equals itself."""
    same: NDArray[np.bool_] = one == other
    return same | (np.isnan(one) & np.isnan(other)) if one.dtype.kind == "f" else same


def compare(
    reference: NDArray[Any], variant: NDArray[Any], other_reference: NDArray[Any], limits: Limits
) -> Comparison:
    """Compare a variant's samples with those of fp32.

    Args:
        reference: what fp32 makes of some latents: uint8 or float32 [N, …].
        variant: what the variant makes of the same latents.
        other_reference: what fp32 makes of other latents.
        limits: what is allowed.
    """
    assert reference.shape == variant.shape, "the same samples"
    finite = bool(np.isfinite(variant).all())
    a_ND, v_ND, b_ND = (_levels(x, reference) for x in (reference, np.nan_to_num(variant), other_reference))
    error_ND = np.abs(v_ND - a_ND)
    mean_square = float(np.mean(np.square(error_ND, dtype=np.float64)))
    psnr = None if mean_square == 0 else 10 * math.log10(LEVELS**2 / mean_square)
    values_off, max_error = float(np.mean(error_ND > 1.0 + 1e-4)), float(error_ND.max())
    distance = _set_distance(a_ND, v_ND, b_ND)
    failures = [] if finite else ["it makes values that are not finite"]
    if psnr is not None and psnr < limits.psnr:
        failures.append(f"PSNR {psnr:.1f} dB, at least {limits.psnr:g} is required")
    if values_off > limits.values_off:
        failures.append(
            f"{100 * values_off:.3g} % of the values are off by more than 1 of 255, "
            f"{100 * limits.values_off:g} % are allowed"
        )
    if max_error > limits.max_error:
        failures.append(f"a value is off by {max_error:.0f} of 255, {limits.max_error:g} is allowed")
    if not distance <= limits.set_distance:
        failures.append(
            f"its samples are {distance:.3g} × as far from an fp32 set as fp32's own, "
            f"{limits.set_distance:g} × is allowed"
        )
    return Comparison(
        samples=len(reference),
        psnr=psnr,
        values_off=values_off,
        max_error=max_error,
        set_distance=distance,
        limits=limits,
        failures=tuple(failures),
    )


def _levels(samples: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32 [N, D] in levels of 255 of the range that fp32's samples have."""
    flat_ND = samples.reshape(len(samples), -1)
    if samples.dtype == np.uint8:
        return flat_ND.astype(np.float32)
    low, high = float(reference.min()), float(reference.max())
    return (flat_ND - np.float32(low)) * np.float32(LEVELS / max(high - low, 1e-12))


def _set_distance(a_ND: NDArray[Any], v_ND: NDArray[Any], b_ND: NDArray[Any]) -> float:
    """Return distance(variant, other fp32) ÷ distance(fp32, other fp32): about 1 for a faithful variant."""
    project = _features(a_ND.shape[1])
    a_NF, v_NF, b_NF = project(a_ND), project(v_ND), project(b_ND)
    scale_F = np.maximum(b_NF.std(axis=0), 1e-6)  # every feature counts alike
    near = frechet_distance(a_NF / scale_F, b_NF / scale_F)
    far = frechet_distance(v_NF / scale_F, b_NF / scale_F)
    return far / near if near > 0 else (1.0 if far == 0 else math.inf)


def _features(values: int) -> Any:
    """Return a function from samples [N, D] to features [N, F]: rectified random sums over random runs of values.

    A rectified feature's mean tells spreads apart that have the same mean, as noise added by rounding has.
    """
    rng = np.random.default_rng(_SEED)
    width = min(_PATCH, values)
    starts_F = rng.integers(0, values - width + 1, FEATURES)
    weights_FP = rng.standard_normal((FEATURES, width)).astype(np.float32) / np.float32(math.sqrt(width))

    def project(samples_ND: NDArray[Any]) -> NDArray[np.float64]:
        columns = [
            np.maximum((samples_ND[:, s : s + width] - np.float32(LEVELS / 2)) @ w, 0)
            for s, w in zip(starts_F, weights_FP, strict=True)
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    return project


def frechet_distance(a_NF: NDArray[np.float64], b_NF: NDArray[np.float64]) -> float:
    """Return |μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½): the squared Fréchet distance of the sets' normal distributions.

    The trace of the root is the sum of the square roots of ΣaΣb's eigenvalues, which are those of the symmetric
    Σa^½ Σb Σa^½, so real and not negative.
    """
    mean = float(np.sum((a_NF.mean(axis=0) - b_NF.mean(axis=0)) ** 2))
    cov_a, cov_b = np.cov(a_NF, rowvar=False), np.cov(b_NF, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    root = np.sqrt(np.maximum(np.linalg.eigvalsh(root_a @ cov_b @ root_a), 0)).sum()
    return max(mean + float(np.trace(cov_a) + np.trace(cov_b) - 2 * root), 0.0)
