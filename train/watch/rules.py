"""When the figures of a run are an alarm. Pure functions of the run's looks, oldest first.

Where the limits come from: a figure that real rows have among themselves is measured on the run's own data at its
start (`Yardstick.floors`), and the limit is a multiple of it. Where real rows say nothing, the limit is a fraction of
what the run itself had, or lies far outside what good runs on digits and Fashion-MNIST showed: each constant tells.

An alarm is raised when its condition begins, not again while it lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gen_engine.train.watch.alarm import Alarm, Kind

Look = Mapping[str, float | None]
"""The figures of one look, with the losses of its epoch."""

FELL = 0.5
"""Of the diversity that the run had. n equal modes have 1 - 1/n of the spread of rows that all differ, so this is what
is left of a generator of many modes when two are."""

IGNORED, SETTLED = 0.01, 50
"""Diversity below which the generator ignores its latents, once batch statistics, of which a tenth is replaced at each
step, have forgotten how they began (0.9^50 = 0.5 %). Good runs had 0.03 or more by then."""

RISEN = 0.25
"""Diversity from which on a loss of it counts; until then good runs fluctuate."""

LEAST, LATE = 0.1, 5000
"""Diversity that good runs had within 300 steps, the slowest of them, and the steps after which it is late."""

IN_A_ROW = 2
"""Looks for which a figure that fluctuates has to be bad."""

COPIES = 10.0
"""Times the share of real rows that are as near to a training row. Good runs have less than the share itself."""

GREW = 3.0
"""Growth of a norm from a look to the next; good runs have at most 1.1, a learning rate of 1 has 50."""

JUMPED = 10.0
"""Times the largest loss of the looks before, or 1 if that is less."""

SKIPPED = 0.01
"""Share of an epoch's steps that are not finite."""

BLANK = 0.5
"""Share of samples that are saturated or constant, where the run had less than a tenth."""

OBJECTIVES = ("loss", "d", "g")
"""What training minimises. Not its parts: the KL term of a good VAE grows twentyfold as the encoder begins to use its
latents, while the objective falls."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the rules compare with, from the yardstick and the start of the run."""

    copies_floor: float
    scale: float
    """Fréchet distance of a generator that only makes the mean image."""

    norms: Mapping[str, float]
    """Norms before the first step, by the figure's name."""

    held_out: bool


def alarms(looks: Sequence[Look], limits: Limits, losses: Sequence[str]) -> Iterator[Alarm]:
    """Yield the alarms that the last look raises.

    Args:
        looks: all looks of the run.
        limits: what they are compared with.
        losses: the names of the figures that are losses.
    """
    rules: tuple[tuple[Kind, Callable[[Sequence[Look]], str | None], str], ...] = (
        ("divergence", lambda seen: diverged(seen, limits, losses), _TRY_DIVERGED),
        ("collapse", collapsed, _TRY_COLLAPSED),
        ("memorisation", lambda seen: memorised(seen, limits), _TRY_MEMORISED),
    )
    for kind, rule, try_ in rules:
        saw = rule(looks)
        if saw is not None and (len(looks) < 2 or rule(looks[:-1]) is None):
            yield Alarm(kind=kind, epoch=int(looks[-1]["epoch"] or 0), saw=saw, try_=try_)


_TRY_COLLAPSED = (
    "export the best checkpoint; lower --lr-discriminator or --lr, use another --loss, more --latent-dim, a larger "
    "--batch, or another --seed (a VAE: a lower --beta)"
)
_TRY_DIVERGED = "export the best checkpoint; a lower --lr, --precision fp32, a larger --batch"
_TRY_MEMORISED = "export an earlier checkpoint, fewer --epochs; more data, a smaller --width, a higher --beta (VAE)"


def collapsed(looks: Sequence[Look]) -> str | None:
    """What shows that samples lost their diversity, or never had it; None when nothing does."""
    if len(looks) < IN_A_ROW:
        return None
    last = [_diversity(look) for look in looks[-IN_A_ROW:]]
    now, duplicates = max(last), 100.0 * _value(looks[-1], "duplicates")
    step = _value(looks[-IN_A_ROW], "step")
    seen = (
        f"samples of the least diverse class differ by {100 * last[-1]:.3g} % of what real rows differ by, and "
        f"{duplicates:.3g} % of all have a near-duplicate"
    )
    if now < IGNORED and step >= SETTLED:
        return f"{seen}: the generator ignores its latents"
    best = max((_value(look, "diversity_worst_class") for look in looks[:-IN_A_ROW]), default=0.0)
    if best >= RISEN and now < FELL * best:
        return f"{seen}; it was {100 * best:.3g} %"
    if step >= LATE and max(map(_diversity, looks)) < LEAST:
        return f"{seen}, and never by {100 * LEAST:.0f} % in {step:,.0f} steps"
    return None


def diverged(looks: Sequence[Look], limits: Limits, losses: Sequence[str]) -> str | None:
    """What shows that the numbers run away; None when nothing does."""
    now, before = looks[-1], looks[:-1]
    skipped, steps = _value(now, "skipped_steps"), _value(now, "step") - (_value(before[-1], "step") if before else 0.0)
    if skipped > max(1.0, SKIPPED * steps):
        return f"{skipped:.0f} steps of the last epoch had a loss or gradient that is not finite"
    for name, start in limits.norms.items():
        was = _value(before[-1], name) if before else start
        if not _value(now, name) <= GREW * max(was, 1e-12):
            return f"the norm of the {name.removeprefix('norm_')} went from {was:.3g} to {_value(now, name):.3g}"
    for name in losses:
        largest = max((abs(_value(look, name)) for look in before), default=float("inf"))
        if abs(_value(now, name)) > JUMPED * max(1.0, largest):
            return f"the loss {name} is {_value(now, name):.3g}, and was at most {largest:.3g}"
    return _junk(looks, limits)


def _junk(looks: Sequence[Look], limits: Limits) -> str | None:
    last, before = looks[-IN_A_ROW:], looks[:-IN_A_ROW]
    if not before:
        return None
    best = min(_value(look, "frechet") for look in before)
    far = min(_value(look, "frechet") for look in last)
    if best < limits.scale / 2 and far > limits.scale and max(map(_diversity, last)) >= IGNORED:
        return f"the Fréchet distance rose from {best:.3g} to {far:.3g}, that of the mean image is {limits.scale:.3g}"
    for name in ("saturated", "constant"):
        if min(_value(look, name) for look in last) >= BLANK and min(_value(look, name) for look in before) < BLANK / 5:
            return f"{100 * _value(looks[-1], name):.0f} % of the samples are {name}"
    return None


def memorised(looks: Sequence[Look], limits: Limits) -> str | None:
    """What shows that samples are copies of training rows; None when nothing does."""
    now, share = looks[-1], _value(looks[-1], "copies")
    if share < COPIES * limits.copies_floor or _diversity(now) < IGNORED:
        return None
    seen = (
        f"{100 * share:.0f} % of the samples are as near to one training row as {100 * limits.copies_floor:.0f} % of "
        f"training rows are to another"
    )
    if limits.held_out:
        seen += f", and the discriminator's over-fitting is {_value(now, 'overfitting'):.2f} of 1"
    return seen


def _diversity(look: Look) -> float:
    """The lesser one of the averaged and of the live generator."""
    return min(_value(look, "diversity_worst_class"), _value(look, "diversity_live"))


def _value(look: Look, name: str) -> float:
    """A figure; infinite where it is not finite, 0 where it was not measured."""
    value = look.get(name, 0.0)
    return float("inf") if value is None or value != value else float(value)
