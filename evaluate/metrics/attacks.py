"""Scores of membership attacks: from the synthetic rows and reference rows, how likely is a candidate a member?

- ``distance``: nearness to a synthetic row (D. Chen et al., *GAN-Leaks*, 2020);
- ``calibrated``: the same, in proportion to the distance from the nearest reference row (ibid.);
- ``neighbours``: number of synthetic rows within a radius (B. Hilprecht et al., *Monte Carlo and reconstruction
  membership inference attacks against generative models*, 2019);
- ``density-ratio``: density of synthetic rows over that of reference rows (B. van Breugel et al., *Membership inference
  attacks against synthetic data through overfitting detection* (DOMIAS), 2023);
- ``classifier``: how sure a model is that a candidate is synthetic and not a reference row.

Nothing here is fitted to candidates: without a leak the scores of both kinds are then distributed alike.

Shape suffixes: N candidates, B base rows, R rows of a block, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.metrics.distances import nearest, prepare
from gen_engine.evaluate.metrics.holdout import Features
from gen_engine.evaluate.metrics.two_sample import Trees

ATTACKS: Final = ("distance", "calibrated", "neighbours", "density-ratio", "classifier")

_NEIGHBOURS: Final = 20
_COMPONENTS: Final = 64
"""Components that the classifier sees: trees on every pixel take minutes."""

_DENSITY_WIDTH: Final = 8
"""Components in which densities are estimated: in more, a kernel estimate of a few thousand rows is empty."""

_DENSITY_ROWS: Final = 20_000
_RADIUS_ROWS: Final = 1_000
"""Reference rows whose median decides the radius."""

_BLOCK: Final = 256

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scores of an attack, higher for likelier members: of training rows, and of held-out ones."""

    members_N: Scores
    others_N: Scores

    def take(self, members_N: NDArray[Any], others_N: NDArray[Any]) -> Candidates:
        """Return some of the candidates, by their indices or by booleans."""
        return Candidates(self.members_N[members_N], self.others_N[others_N])

    def half(self, which: int) -> Candidates:
        """Return every second candidate of both kinds; they were drawn in random order."""
        return Candidates(self.members_N[which::2], self.others_N[which::2])


@dataclass(frozen=True, eq=False)
class Population:
    """The rows of an attack, float32 [N, D] each: what the attacker has, and whom they ask about."""

    members_ND: Features
    others_ND: Features
    reference_ND: Features
    synthetic_ND: Features


def run_attacks(population: Population, rng: np.random.Generator) -> dict[str, Candidates]:
    """Return the scores of every attack by its name."""
    members, others, reference, asked, synthetic = prepare(
        population.members_ND,
        population.others_ND,
        population.reference_ND,
        population.reference_ND[:_RADIUS_ROWS],
        population.synthetic_ND,
    )
    kept = min(_NEIGHBOURS, len(synthetic))
    near = [nearest(one, synthetic, kept)[0] for one in (members, others)]
    real = [nearest(one, reference, 1)[0][:, 0] for one in (members, others)]
    # The median of nearest distances, as in the paper, but of reference rows: it must not depend on the candidates.
    radius = float(np.median(nearest(asked, synthetic, 1)[0]))
    tiny = np.finfo(np.float64).tiny
    found = {
        "distance": [-one[:, 0] for one in near],
        "calibrated": [np.log(b + tiny) - np.log(a[:, 0] + tiny) for a, b in zip(near, real, strict=True)],
        # Of equal counts, the nearer one is likelier.
        "neighbours": [(one <= radius).sum(1) - one[:, 0] / (1 + one[:, 0]) for one in near],
        **_in_components(population, rng),
    }
    return {name: Candidates(*(np.asarray(one, np.float64) for one in found[name])) for name in ATTACKS}


def _in_components(population: Population, rng: np.random.Generator) -> dict[str, list[Scores]]:
    """Attack in principal components of what the attacker has."""
    from sklearn.decomposition import PCA

    synthetic_N = rng.permutation(len(population.synthetic_ND))[:_DENSITY_ROWS]
    count = min(len(population.reference_ND), len(synthetic_N))
    both_ND = np.vstack([population.reference_ND[:count], population.synthetic_ND[synthetic_N[:count]]])
    width = min(_COMPONENTS, both_ND.shape[1], len(both_ND) - 1)
    solver = "covariance_eigh" if both_ND.shape[1] <= 4 * len(both_ND) else "full"
    fitted = PCA(width, svd_solver=solver).fit(both_ND)
    members, others, reference, synthetic = (
        fitted.transform(one)
        for one in (
            population.members_ND,
            population.others_ND,
            population.reference_ND,
            population.synthetic_ND[synthetic_N],
        )
    )
    scores_N = Trees()(
        np.vstack([reference[:count], synthetic[:count]]),
        np.repeat([0, 1], count),
        np.vstack([members, others]),
        int(rng.integers(1 << 31)),
    )
    # Scott's rule, in units of the deviations; one bandwidth for both, so that it cancels where they are equal.
    dense = min(_DENSITY_WIDTH, width)
    deviation_D = np.sqrt(fitted.explained_variance_[:dense])
    scale_D = np.where(deviation_D > 0, deviation_D, 1) * len(reference) ** (-1 / (dense + 4))
    members, others, reference, synthetic = (
        np.asarray(one[:, :dense] / scale_D, np.float64) for one in (members, others, reference, synthetic)
    )
    return {
        "classifier": np.split(scores_N, [len(members)]),
        "density-ratio": [_log_density(synthetic, one) - _log_density(reference, one) for one in (members, others)],
    }


def _log_density(base_BD: Scores, rows_ND: Scores) -> Scores:
    """Return the logarithm of the sum of unit Gaussian kernels at the base rows, [N], in bounded memory."""
    right_ED = np.vstack([base_BD.T, -0.5 * np.einsum("bd,bd->b", base_BD, base_BD)])
    parts = []
    for at in range(0, len(rows_ND), _BLOCK):
        block_RD = rows_ND[at : at + _BLOCK]
        exponents_RB = np.hstack([block_RD, np.ones((len(block_RD), 1))]) @ right_ED
        largest_R = exponents_RB.max(1)
        sums_R = np.exp(exponents_RB - largest_R[:, None]).sum(1)
        parts.append(np.log(sums_R) + largest_R - 0.5 * np.einsum("rd,rd->r", block_RD, block_RD))
    return np.concatenate(parts)
