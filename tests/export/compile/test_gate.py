"""The accuracy gate: what it lets through, and what it does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gen_engine.export.compile.gate import LIMITS, Limits, compare, frechet_distance

RNG = np.random.default_rng(0)
LENIENT = Limits(psnr=0.0, values_off=1.0, max_error=255.0, set_distance=1e9)


def samples_of(seed: int, samples: int = 400) -> np.ndarray:
    """Smooth random blobs: uint8 [N, 12, 12, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :12]
    cy, cx, r = (rng.uniform(low, high, (samples, 1, 1)) for low, high in ((2, 10), (2, 10), (1, 4)))
    return (255 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r**2))).astype(np.uint8)[..., None]


A, B = samples_of(1), samples_of(2)


@pytest.mark.parametrize("precision", LIMITS)
def test_fp32_itself_passes_everywhere(precision: str) -> None:
    comparison = compare(A, A.copy(), B, LIMITS[precision])
    assert comparison.passed
    assert (comparison.psnr, comparison.values_off, comparison.max_error) == (None, 0.0, 0.0)
    assert comparison.set_distance == pytest.approx(1.0)


def test_figures_of_known_errors() -> None:
    base = np.full((100, 4), 100, np.uint8)
    base[0] = 0
    variant = base.copy()
    variant[:, 0] += 1  # within a level
    variant[:10, 1] += 5
    comparison = compare(base, variant, samples_of(3)[:100, 0, :4, 0], LENIENT)
    assert comparison.values_off == pytest.approx(10 / 400)
    assert comparison.max_error == 5
    assert comparison.psnr == pytest.approx(10 * np.log10(255**2 / ((100 + 250) / 400)))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda a: np.where(RNG.random(a.shape) < 0.2, a ^ 8, a), "% of the values are off by more than 1 of 255"),
        (lambda a: np.where(a == a.max(), 0, a), "a value is off by 254 of 255, 48 is allowed"),
        (lambda a: 255 - a, "PSNR"),
        (lambda a: a[::-1] // 2, "× as far from an fp32 set as fp32's own"),
    ],
)
def test_what_a_variant_may_not_be(harm, message: str) -> None:
    comparison = compare(A, harm(A).astype(np.uint8), B, LIMITS["bf16"])
    assert not comparison.passed
    assert any(message in failure for failure in comparison.failures), comparison.failures


def test_sets_are_distinguished_when_no_value_can_be_compared() -> None:
    other = samples_of(4)
    same = compare(A, other, B, LENIENT)  # other samples of the same generator
    noisy = compare(A, np.clip(other + RNG.normal(0, 25, other.shape), 0, 255).astype(np.uint8), B, LENIENT)
    assert same.set_distance < 2 < noisy.set_distance


def test_values_that_are_not_finite() -> None:
    a, b = RNG.standard_normal((2, 100, 30)).astype(np.float32)
    broken = a.copy()
    broken[3, 4] = np.nan
    comparison = compare(a, broken, b, LENIENT)
    assert "it makes values that are not finite" in comparison.failures


def test_floats_are_measured_in_levels_of_their_range() -> None:
    a, b = RNG.uniform(-1, 1, (2, 100, 30)).astype(np.float32)
    a[0, :2] = (-1, 1)
    comparison = compare(a, a + np.float32(2 * 2 / 255), b, LENIENT)
    assert comparison.max_error == pytest.approx(2, rel=1e-3)
    assert comparison.values_off == 1.0


def test_the_record_is_plain() -> None:
    record = compare(A, A // 2, B, LIMITS["int8"]).to_json()
    assert record["passed"] is False
    assert set(record["limits"]) == {field.name for field in dataclasses.fields(Limits)}
    assert all(isinstance(failure, str) for failure in record["failures"])


def test_frechet_distance_of_known_normals() -> None:
    """|Δμ|² + Σ(σa − σb)² for independent features."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((200_000, 3))
    y = rng.standard_normal((200_000, 3)) * (1, 2, 0.5) + (0, 1, 0)
    assert frechet_distance(x, y) == pytest.approx(1 + 1 + 0.25, abs=0.03)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
