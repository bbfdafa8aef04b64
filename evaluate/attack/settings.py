"""What an attack is: its method, its bound in whole steps of 8-bit pixels, and its steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.latents import check_seed

METHODS: Final = ("fgsm", "pgd")
TOP: Final = 255
DEFAULT_STEPS: Final = 10
MAX_STEPS: Final = 10_000
DEFAULT_BATCH: Final = 64
MAX_BATCH: Final = 1 << 16
_NUMBER: Final = re.compile(r"\d{1,20}(\.\d{0,20})?|\.\d{1,20}|\d{1,20}/\d{1,20}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """An attack with every choice made; :func:`attack_settings` makes one from what a user states."""

    method: str
    """One of :data:`METHODS`."""

    levels: int
    """Most that a value may change, of 255: floor(255 ε)."""

    steps: int
    step: float
    """Length of a step, of 255."""

    seed: int | None
    """Of the random starts; None for a method that has none."""

    batch: int
    """Images per call of the classifier. Kernels may round differently at another, so the bytes depend on it."""

    def recorded(self) -> dict[str, str | int | float]:
        """Return what a plan records, without the batch, which its computation does."""
        known: dict[str, str | int | float] = {"method": self.method, "epsilon": f"{self.levels}/{TOP}"}
        if self.method == "pgd":
            known |= {"steps": self.steps, "step_size": self.step / TOP}
        return known if self.seed is None else known | {"seed": self.seed}

    def __str__(self) -> str:
        """Return a human-readable form."""
        if self.method == "fgsm":
            return f"FGSM, ε = {self.levels}/{TOP}"
        return (
            f"PGD, ε = {self.levels}/{TOP}, {self.steps} steps of {self.step:.4g}/{TOP}, random start, seed {self.seed}"
        )


def attack_settings(
    *,
    method: str,
    epsilon: str,
    steps: int | None = None,
    step_size: str | None = None,
    seed: int | None = None,
    batch: int = DEFAULT_BATCH,
) -> AttackSettings:
    """Return the settings that a user states.

    Args:
        method: ``fgsm``, one step of ε along the gradient's sign; or ``pgd``, several from a random start.
        epsilon: the bound on the scale of pixels from 0 to 1: ``8/255`` or ``0.03``. Rounded down to whole levels.
        steps: of pgd; None for :data:`DEFAULT_STEPS`.
        step_size: of pgd, on the same scale; None for 2.5 ε / steps, which reaches the bound from any start.
        seed: of pgd's random starts, 0 to 2**64 - 1; None for 0.
        batch: images per call of the classifier.

    Raises:
        RequestError: a value is out of range, or does not belong to the method.
    """
    if method not in METHODS:
        raise RequestError(f"method {method!r}: it is one of {', '.join(METHODS)}")
    levels = int(_fraction("epsilon", epsilon) * TOP)
    if levels < 1:
        raise RequestError(
            f"epsilon {epsilon}: it is below 1/255, the smallest change of an 8-bit pixel, so nothing could change; "
            "give 1/255 or more"
        )
    if type(batch) is not int or not 1 <= batch <= MAX_BATCH:
        raise RequestError(f"batch {batch}: it must be between 1 and {MAX_BATCH:,}")
    if method == "fgsm":
        _refuse_for_fgsm(steps=steps, step_size=step_size, seed=seed)
        return AttackSettings(method=method, levels=levels, steps=1, step=levels, seed=None, batch=batch)
    count = DEFAULT_STEPS if steps is None else steps
    if type(count) is not int or not 1 <= count <= MAX_STEPS:
        raise RequestError(f"steps {count}: it must be between 1 and {MAX_STEPS:,}")
    check_seed(seed or 0)
    step = Fraction(5 * levels, 2 * count) if step_size is None else _fraction("step size", step_size) * TOP
    return AttackSettings(method=method, levels=levels, steps=count, step=float(step), seed=seed or 0, batch=batch)


def _fraction(what: str, text: str) -> Fraction:
    try:
        value = Fraction(text) if _NUMBER.fullmatch(text) else None
    except ZeroDivisionError:
        value = None
    if value is None or not 0 < value <= 1:
        raise RequestError(
            f"{what} {text!r}: pixels are from 0 to 1, so write a number above 0 and at most 1: 8/255, 0.03"
        )
    return value


def _refuse_for_fgsm(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            raise RequestError(
                f"{flag} {value}: fgsm is one step of epsilon and draws nothing; leave it out, or use pgd"
            )
