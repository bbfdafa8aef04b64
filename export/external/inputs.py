"""What each input of a graph is for: an ordered list of rules, each of which explains some inputs or refuses the graph.

Rules use only what the graph declares and what the user states; nothing is run here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.overrides import Overrides

_LABEL = re.compile(r"label|class|one.?hot|categor|digit|target|^cls|_cls$|^y$")
_REAL = re.compile(r"embed|feature|logit")
_CONDITION = re.compile(r"cond|context|attr|embed|^c$")
"""What may be classes, or real values."""

_LATENT = re.compile(r"latent|noise|eps|^z\d*$|^w\d*$")
_TIME = re.compile(r"time|sigma|step|snr|noise_?level|^t$|^temb$")

IMAGE_RANK = 3
_MAX_IMAGE_CHANNELS = 4

DIFFUSION = (
    "it is one step of a diffusion: it takes a noisy sample, {sample}, and a timestep, {time}. A bundle holds "
    "generators that make a sample of latents in one call. Export the whole sampling loop as one graph, or, of a model "
    "distilled to one step, fix the timestep with --constant {name}=VALUE"
)
_TAKES_SAMPLES = (
    "{input} {why}: this takes samples and changes them, as autoencoders, super-resolution and translation do, and a "
    "generator makes samples of latents. Of an autoencoder, export the decoder alone"
)


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input of a graph, as the graph declares it."""

    name: str
    dtype: np.dtype[Any]
    batch: int | None
    """None: any."""

    sizes: tuple[int | None, ...]
    """After the batch; None: not stated."""

    scalar: bool = False
    """It has no axes at all, so none for the batch."""

    def __str__(self) -> str:
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


def ports(model: ir.Model) -> tuple[Port, ...]:
    """Return a graph's inputs.

    Raises:
        UnsupportedGenerator: one of them is not a tensor of numbers.
    """
    inputs = []
    for value in model.graph.inputs:
        if value.dtype is None or value.dtype == ir.DataType.STRING:
            raise UnsupportedGenerator(f"input {value.name!r} is not a tensor of numbers")
        dims = (
            []
            if value.shape is None
            else [size if isinstance(size, int) and size > 0 else None for size in value.shape]
        )
        inputs.append(
            Port(
                name=str(value.name),
                dtype=np.dtype(value.dtype.numpy()),
                batch=dims[0] if dims else None,
                sizes=tuple(dims[1:]),
                scalar=not dims,
            )
        )
    return tuple(inputs)


def declared_outputs(model: ir.Model) -> list[tuple[int | None, ...]]:
    """Return the shapes of a graph's outputs after the batch, as they are declared."""
    shapes = [value.shape for value in model.graph.outputs if value.shape is not None]
    return [tuple(size if isinstance(size, int) else None for size in shape[1:]) for shape in shapes]


@dataclass
class _Assignment:
    """Inputs that are not explained yet, and those that are."""

    ports: Sequence[Port]
    outputs: Sequence[tuple[int | None, ...]]
    overrides: Overrides
    latents: list[Port] = field(default_factory=list)
    label: Port | None = None

    @property
    def rest(self) -> list[Port]:
        return [port for port in self.ports if port not in self.latents and port is not self.label]

    def named(self, flag: str, name: str) -> Port:
        for port in self.ports:
            if port.name == name:
                return port
        there = ", ".join(map(str, self.ports)) or "none"
        raise UnsupportedGenerator(f"--{flag} {name}: the generator's inputs are {there}")


def _take_named(state: _Assignment) -> None:
    """Inputs that the user names are what they are named for."""
    state.latents = [state.named("latent", name) for name in state.overrides.latent_names]
    state.label = None if state.overrides.label is None else state.named("label", state.overrides.label)


def _refuse_diffusion(state: _Assignment) -> None:
    """A noisy sample and a timestep are a diffusion, whatever the user names them."""
    for time in state.ports:
        others = [port for port in state.ports if port.real and port.sizes and port is not time]
        samples = [port for port in others if port.sizes in state.outputs]
        per_row = not time.scalar and time.sizes in ((), (1,))
        by_name = is_time(time.name) and (per_row or time.scalar) and others
        by_shape = samples and (time.scalar or per_row) and time is not state.label and not state.overrides.label
        if by_name or by_shape:
            sample = (samples or others)[0]
            classes = "" if by_name else f". If {time.name} holds classes, state it with --label {time.name}"
            raise UnsupportedGenerator(DIFFUSION.format(sample=sample, time=time, name=time.name) + classes)


def _refuse_samples(state: _Assignment) -> None:
    """An input of an image's rank, or of an output's sizes, is not a latent unless the user states it."""
    real = [port for port in state.rest if port.real and port.sizes and not _is_label(port)]
    for port in real:
        if reason := takes_samples(port.name, port.sizes, state.outputs, alone=len(real) == 1):
            raise UnsupportedGenerator(refusal(str(port), reason, port.name))


def _take_label(state: _Assignment) -> None:
    """Integers are classes; so is a row of real numbers with the name of labels."""
    if state.label is None:
        state.label = next((port for port in state.rest if _is_label(port)), None)


def _take_latents(state: _Assignment) -> None:
    """Real inputs are latents: the only one there is, or those with the names of latents."""
    if state.latents:
        return
    real = [port for port in state.rest if port.real and port.sizes]
    if len(real) == 1 and not _CONDITION.search(real[0].name.lower()):
        state.latents = real
    else:
        state.latents = [port for port in real if _LATENT.search(port.name.lower())]


def _refuse_unexplained(state: _Assignment) -> None:
    """For any other input, the user must state its purpose."""
    if not (rest := state.rest):
        return
    names = " and ".join(map(str, rest))
    first = rest[0]
    if first.real and _CONDITION.search(first.name.lower()):
        raise UnsupportedGenerator(
            f"the input {first} takes real values or one-hot classes, and nothing decides which: give --label "
            f"{first.name} for classes, --latent {_joined(state, first)} if it is random, or --constant "
            f"{first.name}=FILE.npy for one condition that is fixed"
        )
    raise UnsupportedGenerator(
        f"nothing explains the input {names}: a generator's inputs are latents and labels, a row for each sample. Name "
        f"them with --latent NAME[,NAME] and --label NAME, or fix the others with --constant {first.name}=VALUE or "
        f"--constant {first.name}=FILE.npy"
    )


RULES: tuple[Callable[[_Assignment], None], ...] = (
    _take_named,
    _refuse_diffusion,
    _refuse_samples,
    _take_label,
    _take_latents,
    _refuse_unexplained,
)
"""In this order: what the user states, what is not a generator, labels, latents, and what is left."""


def assign(inputs: Sequence[Port], outputs: Sequence[tuple[int | None, ...]], overrides: Overrides) -> Roles:
    """Return what each input is for.

    Args:
        inputs: of the graph.
        outputs: shapes after the batch, as declared.
        overrides: what the user states.

    Raises:
        UnsupportedGenerator: an input is not there, nothing explains it, or the graph takes samples.
    """
    state = _Assignment(inputs, outputs, overrides)
    for rule in RULES:
        rule(state)
    batches = {port.batch for port in (*state.latents, *([state.label] if state.label else []))}
    return Roles(latents=tuple(state.latents), label=state.label, batch=batches.pop() if len(batches) == 1 else None)


def _is_label(port: Port) -> bool:
    if port.scalar or is_time(port.name) or any(size != 1 for size in port.sizes[1:]):
        return False
    if port.real:  # one real number is a condition, not a class
        return bool(port.sizes) and port.sizes[0] != 1 and is_label(port.name)
    return port.dtype.kind in "iu" and len(port.sizes) <= 1


def _joined(state: _Assignment, port: Port) -> str:
    return ",".join([latent.name for latent in state.latents] + [port.name])


def is_label(name: str) -> bool:
    """Return whether a name states that an input takes classes."""
    return _LABEL.search(name.lower()) is not None and _REAL.search(name.lower()) is None


def is_condition(name: str) -> bool:
    """Return whether a name may mean classes or real values."""
    return _CONDITION.search(name.lower()) is not None


def is_latent(name: str) -> bool:
    """Return whether a name states that an input takes random numbers."""
    return _LATENT.search(name.lower()) is not None


def is_time(name: str) -> bool:
    """Return whether a name states that an input takes a timestep of a diffusion."""
    return _TIME.search(name.lower()) is not None


def takes_samples(
    name: str, sizes: Sequence[int | None], outputs: Sequence[Sequence[int | None]], *, alone: bool
) -> str | None:
    """Return why an input seems to take samples, or None.

    Args:
        name: of the input.
        sizes: after the batch; None: open.
        outputs: sizes of the outputs.
        alone: it is the only one that takes real numbers; beside another, noise may have the rank of an image.
    """
    if any(tuple(sizes) == tuple(output) and output for output in outputs):
        return "has the shape of an output"
    if len(sizes) < IMAGE_RANK or (is_latent(name) and not alone):
        return None
    if any(size != 1 for size in sizes[1:]):
        return "has the rank of an image"
    few = sizes[0] is not None and sizes[0] <= _MAX_IMAGE_CHANNELS and not is_latent(name)
    return "has the rank of an image and its number of channels" if few else None


def refusal(described: str, reason: str, name: str) -> str:
    """Return the message for an input that seems to take samples."""
    return _TAKES_SAMPLES.format(input=described, why=reason) + f". If these are latents, state it with --latent {name}"
