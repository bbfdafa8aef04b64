"""Which input of a graph is what, by looking: its latents, its labels, and those that nothing explains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from gen_engine.export.errors import UnsupportedGenerator

_LABEL = re.compile(r"label|class|one.?hot|cond|categor|^[yc]$")
_LATENT = re.compile(r"latent|noise|eps|^z\d*$")
_TIME = re.compile(r"time|sigma|step|^t$")

_DIFFUSION = (
    "it is one step of a diffusion: it takes a noisy sample, {sample}, and a timestep, {time}. A bundle holds "
    "generators that make a sample of latents in one call"
)


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input of a graph, as the graph declares it."""

    name: str
    dtype: np.dtype[Any]
    batch: int | None
    """None: any."""

    sizes: tuple[int | None, ...]
    """After the batch; None where it is not said."""

    scalar: bool = False
    """It has no axis at all, so none for the batch."""

    def __str__(self) -> str:
        """Return it as people read it."""
        whole = () if self.scalar else ("batch", *self.sizes)
        sizes = ", ".join("?" if size is None else str(size) for size in whole)
        return f"{self.name} {self.dtype} [{sizes}]"

    @property
    def real(self) -> bool:
        """True if it takes floating-point numbers."""
        return self.dtype.kind == "f"


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What each input is for."""

    latents: tuple[Port, ...]
    label: Port | None
    batch: int | None
    """The batch that the graph declares; None: any."""


def declared_outputs(model: onnx.ModelProto) -> list[tuple[int | None, ...]]:
    """Return the shapes of a graph's outputs after the batch, as they are declared."""
    return [_dims(value)[1:] for value in model.graph.output]


def _dims(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def ports(model: onnx.ModelProto) -> tuple[Port, ...]:
    """Return a graph's inputs.

    Raises:
        UnsupportedGenerator: one of them is no tensor of numbers.
    """
    found = []
    for value in model.graph.input:
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        except (KeyError, TypeError) as error:
            raise UnsupportedGenerator(f"input {value.name!r} is no tensor of a type that is known") from error
        dims = _dims(value)
        found.append(
            Port(name=value.name, dtype=dtype, batch=dims[0] if dims else None, sizes=dims[1:], scalar=not dims)
        )
    return tuple(found)


def assign(
    found: Sequence[Port], outputs: Sequence[tuple[int | None, ...]], *, latents: Sequence[str], label: str | None
) -> Roles:
    """Return what each input is for: as given by name, else by its type, its shape and its name.

    Args:
        found: the inputs.
        outputs: shapes after the batch, as declared.
        latents: names that are given as latents; none to infer them.
        label: the name that is given as labels; None to infer it.

    Raises:
        UnsupportedGenerator: an input is not there, or nothing explains it.
    """
    by_name = {port.name: port for port in found}
    for flag, names in (("latent", latents), ("label", [label] if label else [])):
        if missing := [name for name in names if name not in by_name]:
            raise UnsupportedGenerator(
                f"--{flag} {missing[0]}: the graph's inputs are {', '.join(map(str, found)) or 'none'}"
            )
    rest = [port for port in found if port.name not in (*latents, label)]
    _refuse_diffusion(rest, outputs)
    chosen = by_name[label] if label else next((port for port in rest if _is_label(port)), None)
    rest = [port for port in rest if port is not chosen]
    given = [by_name[name] for name in latents] or _latents(rest)
    if alone := next((port for port in found if port.scalar), None):
        raise UnsupportedGenerator(
            f"the input {alone} has no axis for the batch, and nothing explains it: a generator's inputs are latents "
            "and labels, a row a sample. Make it a constant of the graph"
        )
    if strange := [port for port in rest if port not in given]:
        raise UnsupportedGenerator(
            f"nothing explains the input {' and '.join(map(str, strange))}: a generator's inputs are latents and "
            "labels. Name them with --latent NAME[,NAME] and --label NAME, or make the others constants of the graph"
        )
    batches = {port.batch for port in (*given, *([chosen] if chosen else []))}
    return Roles(latents=tuple(given), label=chosen, batch=batches.pop() if len(batches) == 1 else None)


def _is_label(port: Port) -> bool:
    name = port.name.lower()
    if port.scalar or len(port.sizes) > 1 or _TIME.search(name):
        return False
    if port.real:  # one number of a real condition is no class
        return len(port.sizes) == 1 and port.sizes[0] != 1 and _LABEL.search(name) is not None
    return port.dtype.kind in "iu"


def _latents(rest: Sequence[Port]) -> list[Port]:
    """Return the real inputs that are latents: the only one, or those whose names say so."""
    real = [port for port in rest if port.real and port.sizes]
    return real if len(real) == 1 else [port for port in real if _LATENT.search(port.name.lower())]


def refuse_diffusion_step(arguments: Sequence[str]) -> None:
    """Raise UnsupportedGenerator if one of the arguments of a function, but the first, is a time by its name."""
    if times := [name for name in arguments[1:] if _TIME.search(name.lower())]:
        raise UnsupportedGenerator(_DIFFUSION.format(sample=arguments[0], time=times[0]))


def _refuse_diffusion(rest: Sequence[Port], outputs: Sequence[tuple[int | None, ...]]) -> None:
    """Raise for a graph that takes what it makes: a step of a diffusion, or a translation of pictures."""
    noisy = [port for port in rest if port.real and len(port.sizes) > 1 and port.sizes in outputs]
    times = [port for port in rest if not port.sizes and (noisy or _TIME.search(port.name.lower()))]
    if times and any(port.real and len(port.sizes) > 1 for port in rest):
        sample = noisy[0] if noisy else next(port for port in rest if port.real and len(port.sizes) > 1)
        raise UnsupportedGenerator(_DIFFUSION.format(sample=sample, time=times[0]))
    if noisy:
        raise UnsupportedGenerator(
            f"the graph takes what it makes, {noisy[0]}: it changes samples and makes none of latents. If these are "
            f"latents, say so with --latent {noisy[0].name}"
        )
