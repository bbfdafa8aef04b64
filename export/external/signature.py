"""What the parameters of a torch module's forward are for, by their names, defaults and what the user states."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from torch import nn

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.inputs import DIFFUSION, is_condition, is_label, is_latent, is_time
from gen_engine.export.external.overrides import Overrides

_BY_POSITION = "latents"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The parameters that take arrays."""

    latents: tuple[str, ...]
    label: str | None
    by_position: bool = False
    """Forward takes any number of arrays, without names."""

    left_out: tuple[str, ...] = ()
    """Parameters that may take labels and keep their defaults."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return all, latents first."""
        return self.latents if self.label is None else (*self.latents, self.label)


def read_signature(module: nn.Module, overrides: Overrides) -> Signature:
    """Return what each parameter of a module's forward is for.

    Raises:
        UnsupportedGenerator: a stated name is not there, one takes a timestep, or nothing explains one.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    usual = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    there = [p.name for p in usual]
    named = [*overrides.latent_names, *([overrides.label] if overrides.label else [])]
    for flag, names in (("latent or --label", named), ("constant", overrides.constants)):
        if missing := [name for name in names if name not in there]:
            raise UnsupportedGenerator(
                f"--{flag} {missing[0]}: the parameters of the module's forward are {', '.join(there) or 'not named'}"
            )
    if not usual:
        return Signature(latents=(_BY_POSITION,), label=None, by_position=True)
    taken = [p.name for p in usual if p.name not in overrides.constants and (p.default is p.empty or p.name in named)]
    _refuse_time(taken)
    optional = [p.name for p in usual if p.name not in (*taken, *overrides.constants)]
    may_be_labels = [name for name in optional if is_label(name) or is_condition(name)]
    label = _label(taken, may_be_labels, overrides)
    latents = tuple(name for name in taken if name != label)
    _check_latents(latents, overrides)
    return Signature(latents=latents, label=label, left_out=() if label in may_be_labels else tuple(may_be_labels))


def _refuse_time(taken: list[str]) -> None:
    """Raise if a parameter beside another takes a time by its name: then it is a step of a diffusion."""
    times = [name for name in taken if is_time(name)]
    samples = [name for name in taken if name not in times]
    if times and samples:
        raise UnsupportedGenerator(DIFFUSION.format(sample=samples[0], time=times[0], name=times[0]))


def _label(taken: list[str], optional: list[str], overrides: Overrides) -> str | None:
    """Return the parameter that takes labels: as stated, by its name, or the second of two."""
    if overrides.label:
        return overrides.label
    free = [name for name in taken if name not in overrides.latent_names]
    if len(taken) > 1:
        by_name = next((name for name in free if is_label(name)), None)
        by_name = by_name or next((name for name in free if is_condition(name)), None)
        if by_name:
            return by_name
        if len(taken) == 2 and not is_latent(taken[1]) and taken[1] in free:
            return taken[1]
    return optional[0] if overrides.classes is not None and optional else None


def _check_latents(latents: tuple[str, ...], overrides: Overrides) -> None:
    strange = [name for name in latents[1:] if not is_latent(name) and name not in overrides.latent_names]
    if strange:
        raise UnsupportedGenerator(
            f"the module takes {', '.join(latents)}, and nothing explains {strange[0]}: a generator takes latents and "
            f"labels. Name them with --latent NAME=SIZE[,…] and --label NAME, or fix the others with --constant "
            f"{strange[0]}=VALUE"
        )
