"""The latents are the bytes' first cause: their definition, their bits, their statistics."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from numpy_only import numpy_only, portable

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.latents import (
    LABEL_STREAM,
    LATENT_STREAM,
    MAX_SEED,
    Latents,
    philox_words,
    quantile_table,
)
from gen_engine.engine.native import core

MASK = 2**64 - 1

GOLDEN_FIRST = [
    [3209582719, 1068355956, 1048274600, 3213360287],
    [1072192124, 1074882190, 3197214120, 1060342334],
]
"""-0.806, 1.358, 0.246, -1.062 and 1.815, 2.272, -0.284, 0.701 as float32 bits."""

GOLDEN_DIGESTS: dict[tuple[str, float | None], str] = {
    ("normal", None): "f399cc94f79b43aee8950930dabefde3",
    ("normal", 0.7): "2bcc122aef703b1107fb575f4122cae6",
    ("uniform", None): "ac5d0a9a976a621de8e7a98823825baa",
}


def philox4x64_10(counter: int, key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 in plain integers, from the definition in Salmon et al. 2011, section 4.3 and table 2."""
    c = [(counter >> (64 * i)) & MASK for i in range(4)]
    k = list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * c[2], 2**64)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return c


@pytest.fixture(scope="class", params=[nullcontext, portable, numpy_only], ids=["native", "portable", "numpy"])
def implementation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of a class with each implementation of the definition."""
    with request.param():
        yield


@pytest.mark.usefixtures("implementation")
class TestWords:
    def test_plain_philox_meets_random123s_known_answers(self) -> None:
        ones = 2**256 - 1
        assert philox4x64_10(0, (0, 0)) == [
            0x16554D9ECA36314C,
            0xDB20FE9D672D0FDC,
            0xD7E772CEE186176B,
            0x7E68B68AEC7BA23B,
        ]
        assert philox4x64_10(ones, (MASK, MASK)) == [
            0x87B092C3013FE90B,
            0x438C3C67BE8D0224,
            0x9CC7D7C69CD777B6,
            0xA09CAEBF594F0BA0,
        ]

    @given(
        seed=st.integers(0, MAX_SEED),
        stream=st.sampled_from([LATENT_STREAM, LABEL_STREAM]),
        first=st.one_of(st.integers(0, 2**64), st.integers(2**64 - 8, 2**64), st.integers(-5, 2**128)),
        blocks=st.integers(1, 5),
    )
    @settings(max_examples=100, deadline=None)
    def test_every_block_is_philox_of_its_own_number(self, seed: int, stream: int, first: int, blocks: int) -> None:
        expected = [word for b in range(blocks) for word in philox4x64_10((first + b) % 2**256, (seed, stream))]
        assert philox_words(seed, stream, first, blocks).tolist() == expected


class TestCompiled:
    """The compiled core draws the same bits as NumPy."""

    @settings(deadline=None, max_examples=150)
    @given(
        dim=st.one_of(st.integers(1, 40), st.integers(1, 5000)),
        seed=st.integers(0, MAX_SEED),
        start=st.one_of(st.integers(0, 10**12), st.just(2**52 - 7)),
        samples=st.integers(0, 50),
        kind=st.sampled_from([("normal", None), ("normal", 2.0), ("normal", 0.5), ("uniform", None)]),
    )
    def test_latents(self, dim: int, seed: int, start: int, samples: int, kind: tuple[str, float | None]) -> None:
        drawn = []
        for way in (nullcontext(), portable(), numpy_only()):
            with way:
                latents = Latents(dim=dim, distribution=kind[0], seed=seed, truncation=kind[1])
                drawn.append(latents.draw(start, start + samples))
        assert drawn[0].shape == (samples, dim)
        assert drawn[0].tobytes() == drawn[1].tobytes() == drawn[2].tobytes()

    @settings(deadline=None, max_examples=100)
    @given(
        dim=st.integers(1, 100),
        near=st.sampled_from(["first", "last"]),
        offset=st.integers(-12, 12),
        samples=st.integers(0, 9),
    )
    def test_at_either_end_of_the_counter(self, dim: int, near: str, offset: int, samples: int) -> None:
        """Beyond one word of the counter NumPy draws."""
        start = offset + (0 if near == "first" else 2**64 // -(-dim // 8))
        latents = Latents(dim=dim, seed=5)
        compiled = latents.draw(start, start + samples)
        with numpy_only():
            assert latents.draw(start, start + samples).tobytes() == compiled.tobytes()

    @pytest.mark.parametrize("way", [nullcontext, portable], ids=["native", "portable"])
    @pytest.mark.parametrize("dim", [*range(1, 19), 100])
    def test_nothing_is_written_behind_the_samples(self, dim: int, way: Any) -> None:
        lines = quantile_table("normal", None).lines
        for samples in range(12):
            out = np.full(samples * dim + 16, np.nan, np.float32)
            with way():
                core().draw_latents(7, LATENT_STREAM, 3, samples, dim, lines, out)
            assert np.isnan(out[samples * dim :]).all()
            assert not np.isnan(out[: samples * dim]).any()

    @settings(deadline=None, max_examples=100)
    @given(seed=st.integers(0, MAX_SEED), first=st.integers(0, 2**64 - 1), blocks=st.integers(0, 40))
    def test_words(self, seed: int, first: int, blocks: int) -> None:
        compiled = philox_words(seed, LATENT_STREAM, first, blocks)
        with portable():
            assert philox_words(seed, LATENT_STREAM, first, blocks).tobytes() == compiled.tobytes()
        with numpy_only():
            assert philox_words(seed, LATENT_STREAM, first, blocks).tobytes() == compiled.tobytes()

    def test_threads_share_nothing(self) -> None:
        latents = Latents(dim=100, seed=3)
        alone = [latents.draw(at, at + 500).tobytes() for at in range(0, 20_000, 500)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda at: latents.draw(at, at + 500).tobytes(), range(0, 20_000, 500))) == alone

    @pytest.mark.parametrize(
        "changed",
        [
            {"first": -1},
            {"first": 2**64},
            {"first": 2**63},
            {"seed": -1},
            {"seed": 2**64},
            {"samples": -1},
            {"samples": 3},
            {"samples": 2**62},
            {"dim": 0},
            {"dim": -8},
            {"dim": 2**62},
            {"lines": np.zeros((512, 2), np.float32)},
            {"lines": np.zeros(2**17, np.float64)},
            {"lines": np.zeros((2, 2**17), np.float32).T},
            {"lines": np.zeros(2**20 + 1, np.uint8)[1:]},
            {"out": np.empty(2 * 20 - 1, np.float32)},
            {"out": np.empty((2, 20), np.float64)},
            {"out": np.empty(161, np.uint8)[1:]},
            {"out": np.empty(164, np.uint8)[1:161].view(np.float32)},
        ],
        ids=lambda changed: "-".join(changed),
    )
    def test_arguments_out_of_range_are_refused(self, changed: dict[str, Any]) -> None:
        given = {"seed": 1, "stream": 0, "first": 0, "samples": 2, "dim": 20}
        given |= {"lines": quantile_table("normal", None).lines, "out": np.empty((2, 20), np.float32)}
        core().draw_latents(*given.values())
        with pytest.raises((ValueError, BufferError)):
            core().draw_latents(*(given | changed).values())

    def test_what_cannot_be_written_as_a_whole_is_refused(self) -> None:
        lines, out = quantile_table("normal", None).lines, np.empty((2, 20), np.float32)
        out.flags.writeable = False
        strided = np.empty((20, 2), np.float32).T, np.empty((2, 40), np.float32)[:, ::2]
        for refused in (out, *strided, bytes(160), None):
            with pytest.raises(TypeError, match="read-write"):
                core().draw_latents(1, 0, 0, 2, 20, lines, refused)
            with pytest.raises(TypeError, match="read-write"):
                core().philox_words(1, 0, 0, refused)

    def test_a_number_out_of_range_is_named(self) -> None:
        out = np.empty(4, np.uint64)
        with pytest.raises(ValueError, match=r"seed -1: it must be between 0 and 2\*\*64 - 1"):
            core().philox_words(-1, 0, 0, out)
        with pytest.raises(ValueError, match="block 18446744073709551616: it must"):
            core().philox_words(1, 0, 2**64, out)
        with pytest.raises(ValueError, match="2 blocks from 18446744073709551615 on"):
            core().philox_words(1, 0, 2**64 - 1, np.empty(8, np.uint64))
        core().philox_words(1, 0, 2**64 - 1, out)
        assert out.tolist() == philox4x64_10(2**64 - 1, (1, 0))

    def test_numbers_may_be_numpys(self) -> None:
        expected = Latents(dim=4, seed=3).draw(5, 7)
        assert np.array_equal(Latents(dim=4, seed=np.uint64(3)).draw(np.int64(5), np.int64(7)), expected)

    @pytest.mark.parametrize("size", [1, 5])
    def test_words_are_drawn_in_whole_blocks(self, size: int) -> None:
        with pytest.raises(ValueError, match="blocks of 32 are due"):
            core().philox_words(1, 0, 0, np.empty(size, np.uint64))

    def test_words_of_another_size_are_refused(self) -> None:
        with pytest.raises(ValueError, match="items of 4 bytes: 8 are due"):
            core().philox_words(1, 0, 0, np.empty(8, np.uint32))


@pytest.mark.usefixtures("implementation")
class TestTransform:
    """A latent against the exact quantile of its 32-bit integer."""

    @pytest.mark.parametrize(
        ("distribution", "truncation", "tolerance"),
        [("normal", None, 2e-6), ("normal", 2.0, 2e-6), ("normal", 0.5, 2e-6), ("uniform", None, 2e-7)],
    )
    def test_latents_are_quantiles_of_their_words(
        self, distribution: str, truncation: float | None, tolerance: float
    ) -> None:
        z = Latents(dim=8, distribution=distribution, seed=3, truncation=truncation).draw(0, 4000)
        halves = philox_words(3, LATENT_STREAM, 0, 4000).view(np.int32) | 1
        cut = NormalDist().cdf(-truncation) if truncation else 0.0

        def exact(x: int) -> float:
            p = abs(x) / 2**32
            tail = 1 - 2 * p if distribution == "uniform" else -NormalDist().inv_cdf(cut + p * (1 - 2 * cut))
            return math.copysign(tail, x)

        expected = np.array([exact(x) for x in halves.tolist()])
        assert np.abs(z.reshape(-1) - expected).max() < tolerance

    def test_the_outermost_integers(self) -> None:
        table = quantile_table("normal", None)
        x = np.array([1, -1, 3, 2**31 - 1, -(2**31) + 1], np.int32).astype(np.float32)
        index = x.view(np.uint32) >> 15
        z = table.slope[index] * x + table.intercept[index]
        outermost = -NormalDist().inv_cdf(2.0**-32)
        assert z[:2].tolist() == pytest.approx([outermost, -outermost], rel=1e-6)
        assert z[2] == pytest.approx(-NormalDist().inv_cdf(3 * 2.0**-32), rel=1e-6)
        assert np.abs(z[3:]).max() < 1e-6

    def test_truncated_latents_stay_inside(self) -> None:
        z = Latents(dim=16, seed=1, truncation=0.7).draw(0, 20_000)
        assert np.abs(z).max() <= np.float32(0.7)


@pytest.mark.usefixtures("implementation")
class TestAddressing:
    @given(
        dim=st.integers(1, 130),
        start=st.integers(0, 10**12),
        cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    )
    @settings(max_examples=60, deadline=None)
    def test_equal_whatever_the_range_is_cut_into(self, dim: int, start: int, cuts: list[int]) -> None:
        latents = Latents(dim=dim, seed=9)
        whole = latents.draw(start, start + sum(cuts))
        at, parts = start, []
        for cut in cuts:
            parts.append(latents.draw(at, at + cut))
            at += cut
        assert whole.tobytes() == np.concatenate(parts).tobytes()

    def test_equal_over_the_edges_of_the_scratch_arrays(self) -> None:
        latents = Latents(dim=100, seed=2)
        whole = latents.draw(0, 2000)
        assert np.array_equal(whole[1234], latents.draw(1234, 1235)[0])
        assert np.array_equal(whole[1999], Latents(dim=100, seed=2).draw(1999, 2000)[0])

    def test_an_empty_range_is_empty(self) -> None:
        assert Latents(dim=5).draw(7, 7).shape == (0, 5)

    def test_every_draw_is_the_callers(self) -> None:
        latents = Latents(dim=5)
        kept = latents.draw(0, 3)
        again = kept.copy()
        kept[:] = 9
        assert np.array_equal(latents.draw(0, 3), again)
        words = philox_words(1, LABEL_STREAM, 0, 2)
        for made in (kept, words):
            assert made.flags.c_contiguous
            assert made.flags.writeable
            assert made.base is None
        assert (kept.dtype, words.dtype) == (np.float32, np.uint64)

    def test_neighbouring_seeds_share_no_latents(self) -> None:
        # seed 1, index 1 must not be seed 2, index 0, as it is where a key is the sum of the two.
        draws = [Latents(dim=8, seed=seed).draw(0, 50).reshape(-1) for seed in range(4)]
        assert len(np.unique(np.concatenate(draws))) == 4 * 50 * 8


@pytest.mark.usefixtures("implementation")
class TestGolden:
    """The bits themselves. A change here is a new ALGORITHM."""

    def test_first_latents(self) -> None:
        z = Latents(dim=4, seed=0).draw(0, 2)
        assert z.view(np.uint32).tolist() == GOLDEN_FIRST

    @pytest.mark.parametrize("key", GOLDEN_DIGESTS)
    def test_digests(self, key: tuple[str, float | None]) -> None:
        assert draw_digest(*key) == GOLDEN_DIGESTS[key]


@pytest.mark.parametrize("kept", range(4))
def test_bits_do_not_depend_on_the_simd_level(kept: int) -> None:
    names = simd_features()[kept:]
    if not names:
        pytest.skip(f"this processor has only {kept} of NumPy's SIMD levels")
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "support")]
    code = (
        f"import sys; sys.path[:0] = {folders}; import test_latents as t, json; "
        "print(json.dumps([t.simd_features(), [t.draw_digest(*key) for key in t.GOLDEN_DIGESTS]]))"
    )
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(names), "GEN_ENGINE_NATIVE": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    enabled, digests = json.loads(run.stdout)
    assert not set(enabled) & set(names)
    assert digests == list(GOLDEN_DIGESTS.values())


@pytest.fixture(scope="module")
def z() -> NDArray[np.float64]:
    return Latents(dim=8, seed=123).draw(0, 250_000).astype(np.float64)


class TestStatistics:
    """Two million latents; each bound is five standard errors wide."""

    def test_moments(self, z: NDArray[np.float64]) -> None:
        n = z.size
        # Standard errors of the first four moments of n standard normals.
        assert abs(z.mean()) < 5 / math.sqrt(n)
        assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / n)
        assert abs((z**3).mean()) < 5 * math.sqrt(15 / n)
        assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n)

    def test_tails(self, z: NDArray[np.float64]) -> None:
        for bound in (1.0, 2.0, 3.0, 4.0):
            expected = z.size * 2 * NormalDist().cdf(-bound)
            assert abs((np.abs(z) > bound).sum() - expected) < 5 * math.sqrt(expected), bound

    def test_kolmogorov_smirnov(self, z: NDArray[np.float64]) -> None:
        some = np.sort(z.reshape(-1)[:100_000])
        exact = np.array([NormalDist().cdf(v) for v in some.tolist()])
        steps = np.arange(1, some.size + 1) / some.size
        distance = max((steps - exact).max(), (exact - steps + 1 / some.size).max())
        assert distance < 1.95 / math.sqrt(some.size)  # exceeded once in 1,000 seeds

    def test_neighbouring_samples_are_uncorrelated(self, z: NDArray[np.float64]) -> None:
        for lag in (1, 2, 7, 8, 64):
            correlation = (z[:-lag] * z[lag:]).mean()
            assert abs(correlation) < 5 / math.sqrt(z[lag:].size), lag

    def test_dimensions_are_uncorrelated(self, z: NDArray[np.float64]) -> None:
        correlation = np.corrcoef(z.T) - np.eye(8)
        assert np.abs(correlation).max() < 5 / math.sqrt(len(z))

    def test_streams_and_seeds_are_uncorrelated(self, z: NDArray[np.float64]) -> None:
        other_seed = Latents(dim=8, seed=124).draw(0, len(z))
        assert abs((z * other_seed).mean()) < 5 / math.sqrt(z.size)
        bits = [philox_words(123, stream, 0, 20_000).view(np.uint8) for stream in (LATENT_STREAM, LABEL_STREAM)]
        differing = np.unpackbits(bits[0] ^ bits[1])
        assert abs(differing.mean() - 0.5) < 5 * 0.5 / math.sqrt(differing.size)

    def test_truncated_moments(self) -> None:
        z = Latents(dim=8, seed=5, truncation=1.0).draw(0, 100_000).astype(np.float64)
        normal = NormalDist()
        variance = 1 - 2 * normal.pdf(1.0) / (normal.cdf(1.0) - normal.cdf(-1.0))
        assert (z**2).mean() == pytest.approx(variance, rel=0.01)


class TestRefused:
    @pytest.mark.parametrize("seed", [-1, 2**64])
    def test_seed_out_of_range(self, seed: int) -> None:
        with pytest.raises(RequestError, match=str(seed)):
            Latents(dim=4, seed=seed)

    @pytest.mark.parametrize("truncation", [0.0, -1.0, math.nan, math.inf, 11.0])
    def test_truncation_out_of_range(self, truncation: float) -> None:
        with pytest.raises(RequestError, match="truncation"):
            Latents(dim=4, truncation=truncation)

    def test_uniform_latents_have_no_tails(self) -> None:
        with pytest.raises(RequestError, match="uniform"):
            Latents(dim=4, distribution="uniform", truncation=0.5)

    def test_unknown_distribution_and_dim(self) -> None:
        with pytest.raises(RequestError, match="cauchy"):
            Latents(dim=4, distribution="cauchy")
        with pytest.raises(RequestError, match="0"):
            Latents(dim=0)


def draw_digest(distribution: str, truncation: float | None) -> str:
    """Return a digest of latents from the start, from far out, and over several scratch arrays."""
    latents = Latents(dim=100, distribution=distribution, seed=42, truncation=truncation)
    parts = [latents.draw(0, 1500), latents.draw(10**12, 10**12 + 3)]
    return hashlib.sha256(b"".join(part.astype("<f4").tobytes() for part in parts)).hexdigest()[:32]


def simd_features() -> list[str]:
    """Return the levels above its baseline that NumPy uses in this process, lowest first."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
