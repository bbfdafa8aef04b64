"""What a card says of a private generator: the guarantee, how it is computed, and what it does not cover."""

from __future__ import annotations

from typing import Any

from gen_engine.train.options import PrivacyOptions
from gen_engine.train.privacy.ledger import Ledger
from gen_engine.train.privacy.mechanism import gaussian_noise

NOT_COVERED = (
    "the choice of options by what earlier runs on the same data gave",
    "the list of classes, the number of images, their size and the range of their values",
    "figures that compare samples with the real data, and decisions made by them",
    "samples filtered by a classifier that was trained on the real data",
    "other releases from the same data, whose ε add to this one",
    "people with several images, who are protected less",
    "attacks on the last bits of floating-point noise, which rounding to float32 only hinders (Mironov 2012)",
)
"""Each is a way in which the data can show that ε does not count."""

NOT_COVERED_BY_STEPS = (
    "how long steps took, which tells how many images were drawn",
    "runs continued from a copy of the run directory, which count their steps apart",
)
"""The same, of a discriminator that looks at the data in every step."""


def privacy_statement(options: PrivacyOptions, ledger: Ledger | None = None) -> dict[str, Any]:
    """The section `privacy` of a bundle's training record; the same arguments give the same statement.

    Args:
        options: of a private run.
        ledger: what a private GAN took from its data; None for noisy means.
    """
    guarantee = {"epsilon": float(options.dp_epsilon), "delta": float(options.dp_delta)}
    if ledger is not None:
        return {**guarantee, **_of_steps(ledger), "not_covered": [*NOT_COVERED, *NOT_COVERED_BY_STEPS]}
    return {
        **guarantee,
        "unit": "one image with its label, replaced by any other",
        "mechanism": "Gaussian noise, added once to class means of random features (DP-MERF)",
        "accountant": "analytic Gaussian mechanism (Balle & Wang 2018), one release",
        "noise_multiplier": gaussian_noise(options.dp_epsilon, options.dp_delta),
        "sensitivity": "2/N for means over N images",
        "features": 2 * options.dp_features + 1,
        "not_covered": list(NOT_COVERED),
    }


def _of_steps(ledger: Ledger) -> dict[str, Any]:
    plan = ledger.plan
    return {
        "unit": "one image with its label, added or removed; replacing one by another counts as both",
        "mechanism": "Gaussian noise on clipped gradients of the discriminator over Poisson samples (DP-SGD)",
        "accountant": "numerical composition of privacy losses (PRV, Gopi et al. 2021, by Opacus), all planned steps",
        "noise_multiplier": ledger.noise_multiplier,
        "clipping_norm": plan.clip,
        "sampling_rate": plan.sampling_rate,
        "steps": plan.steps,
        "steps_spent": ledger.spent,
    }
