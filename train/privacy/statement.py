"""What a card says of a private generator: the guarantee, how it is computed, and what it does not cover."""

from __future__ import annotations

from typing import Any

from gen_engine.train.options import PrivacyOptions
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


def privacy_statement(options: PrivacyOptions) -> dict[str, Any]:
    """The section `privacy` of a bundle's training record; the same options give the same statement."""
    return {
        "epsilon": float(options.dp_epsilon),
        "delta": float(options.dp_delta),
        "unit": "one image with its label, replaced by any other",
        "mechanism": "Gaussian noise, added once to class means of random features (DP-MERF)",
        "accountant": "analytic Gaussian mechanism (Balle & Wang 2018), one release",
        "noise_multiplier": gaussian_noise(options.dp_epsilon, options.dp_delta),
        "sensitivity": "2/N for means over N images",
        "features": 2 * options.dp_features + 1,
        "not_covered": list(NOT_COVERED),
    }
