"""What a private run refuses by name: whatever would look at the data again, and options that would do nothing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from gen_engine.train.errors import ConfigError
from gen_engine.train.options import GanOptions, PrivacyOptions, flag_name

LOOKS = {
    "watch": "compares samples with the real images, and chooses a checkpoint by that",
    "hold_out": "compares samples with the real images",
    "search": "chooses among runs by their score on the real images",
    "augment": "draws from the real images in every step",
    "stream": "reads the real images in every step",
}
"""Options, by field, that look at real images while training; each has a value that turns it off."""

OFF = (None, False, 0, 0.0, "", "none")


def check_private(options: Any) -> None:
    """ConfigError, naming the option, when these options and `dp_epsilon` cannot go together.

    Args:
        options: anything with the fields of `TrainOptions`; those that it lacks are off.
    """
    if not options.dp_epsilon:
        _check_unused(options)
        return
    for name, reason in LOOKS.items():
        if getattr(options, name, None) not in OFF:
            raise ConfigError(
                f"--{flag_name(name)} and --dp-epsilon cannot go together: it {reason}, outside the noise, so no ε "
                f"would hold. Leave it out"
            )
    if getattr(options, "dp_mechanism", None) == "gan":
        _check_private_gan(options)
        return
    if options.loss is not None:
        raise ConfigError(
            f"--loss {options.loss} and --dp-epsilon cannot go together: it compares samples with real images. "
            f"A private generator has its own loss; leave --loss out"
        )
    _check_effect(options)


def _check_effect(options: Any) -> None:
    """Options of a discriminator or an encoder, which a private run has not."""
    defaults = {one.name: one.default for one in fields(GanOptions)}
    defaults |= {"lr_discriminator": None, "accumulate": 1, "dp_clip": PrivacyOptions.dp_clip}
    for name, default in defaults.items():
        if getattr(options, name) != default:
            raise ConfigError(
                f"--{flag_name(name)} has no effect with --dp-epsilon, whose step has no discriminator and takes each "
                f"batch at once: leave it out, or give --dp-mechanism gan"
            )


GAN_LOOKS = {
    "r1": "gradients of gradients cannot be clipped by image",
    "r2": "gradients of gradients cannot be clipped by image",
    "gradient_penalty": "gradients of gradients cannot be clipped by image",
    "diffaugment_target": "it adapts to logits of real images, outside the noise",
    "diffaugment": "the step with clipped gradients has no augmentation",
}
"""What would go past the clipping of a private discriminator, by field."""


def _check_private_gan(options: Any) -> None:
    """Options of a discriminator whose gradients are clipped by image."""
    for name, reason in GAN_LOOKS.items():
        if getattr(options, name) not in OFF:
            raise ConfigError(f"--{flag_name(name)} and --dp-mechanism gan cannot go together: {reason}. Leave it out")
    unused: dict[str, Any] = {
        "accumulate": 1,
        "diffaugment_probability": GanOptions.diffaugment_probability,
        "penalty_every": GanOptions.penalty_every,
        "dp_features": PrivacyOptions.dp_features,
    }
    for name, default in unused.items():
        if getattr(options, name) != default:
            raise ConfigError(f"--{flag_name(name)} has no effect with --dp-mechanism gan: leave it out")


def _check_unused(options: Any) -> None:
    for one in fields(PrivacyOptions):
        if one.name != "dp_epsilon" and getattr(options, one.name) != one.default:
            raise ConfigError(f"--{flag_name(one.name)} has no effect without --dp-epsilon: give both, or neither")
