"""A graph of other origin, understood: its interface, by looking at it and by running it, and a form for any batch.

What a graph draws by itself becomes inputs first; from then on it is a function of its inputs.

Shape suffixes: B batch, Z latents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gen_engine.engine.identity.latents import Latents
from gen_engine.export.errors import ParityError, UnsupportedGenerator
from gen_engine.export.external.call import Call, arguments, count_classes, find_call
from gen_engine.export.external.candidates import calls_of, parse_label, parse_latent
from gen_engine.export.external.inputs import Roles, assign, declared_outputs, ports
from gen_engine.export.external.interface import Asked, Inputs, Interface, LatentPart, Made
from gen_engine.export.external.noise import lift, random_outputs, sizes_drawn, with_outputs
from gen_engine.export.external.outputs import choose_output, describe
from gen_engine.export.external.read import modernised
from gen_engine.export.external.rebatch import BATCHES, rebatched, same_rows
from gen_engine.export.external.widths import classes_of
from gen_engine.export.record import opset
from gen_engine.export.session import Session

_TRIED = 7
"""A batch to try a dynamic graph at: of no size that a graph is likely to hold."""

_CHUNK = 16
_PROBED, _PROBED_VALUES = 256, 1 << 23
"""Samples looked at, and about how many values of them at most."""


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A graph and how it is used."""

    given: Session
    """The graph as it was given, but that what it drew by itself are inputs."""

    given_batch: int
    """A batch at which ``given`` makes a row of what it is alone: the one that it is written for, or 1."""

    draws: bool
    """True if it drew random numbers by itself."""

    model: onnx.ModelProto
    """The same in a bundle's operator set, at any batch if that could be."""

    interface: Interface


def understand(model: onnx.ModelProto, asked: Asked) -> Understood:
    """Find out how a graph is driven and what it makes.

    Raises:
        UnsupportedGenerator: it cannot be told, with what was seen and the flag that would tell it; or the graph is
            none that a bundle can hold.
        ParityError: it claims any batch, and a row is another one beside other rows.
    """
    graph = _Graph(model, asked)
    call, batch, claim = graph.call()
    said: list[str] = []
    call = graph.with_classes(call, batch or _TRIED)
    lifted, noise = lift(model, graph.drawn_sizes(call, batch), graph.roles.batch)
    inputs = Inputs(parts=(*graph.parts(call), *noise), label=call.label)
    said += _sentences(inputs, noise)
    given = Session(lifted.SerializeToString())
    modern = modernised(lifted)
    fixed = batch
    if batch is not None:
        modern, fixed = _at_any_batch(modern, given, inputs, batch, claim, said)
    elif reason := _mixed(given, given, inputs, 1):
        raise ParityError(f"the graph claims any batch, but {reason}: its rows are no samples of their own")
    made = _Probe(given, inputs, batch or _CHUNK).made(asked, said)
    if opset(model) != opset(modern):
        said.append(f"operator set {opset(model)}, converted to {opset(modern)}")
    interface = Interface(inputs=inputs, made=made, batch=fixed, said=tuple(said))
    return Understood(given=given, given_batch=batch or 1, draws=bool(noise), model=modern, interface=interface)


class _Graph:
    """A graph as it was given: what its inputs are for, and how it is called."""

    def __init__(self, model: onnx.ModelProto, asked: Asked) -> None:
        self._model, self._distribution = model, asked.distribution
        self._latents, self._label = parse_latent(asked.latent), parse_label(asked.label)
        found = ports(model)
        self.roles: Roles = assign(
            found,
            declared_outputs(model),
            latents=[name for name, _ in self._latents if name],
            label=self._label[0],
        )
        self._random = random_outputs(model)
        if not self.roles.latents and not self._random:
            there = ", ".join(map(str, found)) or "nothing"
            raise UnsupportedGenerator(
                f"the graph has no latents: it takes {there} and draws no random numbers, so it would make the same "
                "samples again and again"
            )
        self._outputs = [output.name for output in model.graph.output]
        self._session = Session(with_outputs(model, self._random).SerializeToString())

    def __call__(self, latents: list[NDArray[Any]], labels: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
        ports_ = self.roles.latents
        feeds = {port.name: array.astype(port.dtype) for port, array in zip(ports_, latents, strict=True)}
        if self.roles.label is not None and labels is not None:
            feeds[self.roles.label.name] = labels
        return self._session(feeds)

    def _made(self, latents: Any, labels: NDArray[Any] | None) -> list[NDArray[Any]]:
        made = self(latents, labels)
        return [made[name] for name in self._outputs]

    def call(self) -> tuple[Call, int | None, str | None]:
        """Return how it is called, its batch (None: any), and if it claims any and has one, what became of others."""
        calls = calls_of(self._model, self.roles, self._latents, self._label[1])
        batch = self.roles.batch
        if not self.roles.latents and self.roles.label is None:  # all that it takes, it draws
            batch = max(len(output) for output in self._made([], None) if output.ndim)
        if batch is not None:
            return find_call(self._made, calls, batch), batch, None
        try:
            return find_call(self._made, calls, _TRIED), None, None
        except UnsupportedGenerator as refused:
            try:
                return find_call(self._made, calls, 1), 1, str(refused)
            except UnsupportedGenerator:
                raise refused from None

    def with_classes(self, call: Call, batch: int) -> Call:
        """Return the call with its number of classes: as given, of the table that the ids lead to, or by running."""
        if call.label is None or call.label.classes:
            return call
        known = self._label[1] or classes_of(self._model, call.label.name)
        classes = known or count_classes(self._made, call, batch)
        return replace(call, label=replace(call.label, classes=classes))

    def drawn_sizes(self, call: Call, batch: int | None) -> dict[str, tuple[int, ...]]:
        """Return the sizes, after the batch, of what the graph draws by itself."""
        batches = [2, 3] if batch is None else [batch]
        runs = [self(*arguments(call, b)) for b in batches] if self._random else []
        return sizes_drawn({name: [run[name].shape for run in runs] for name in self._random}, batches)

    def parts(self, call: Call) -> tuple[LatentPart, ...]:
        """Return the inputs that are latents, with the sizes of the call."""
        return tuple(
            LatentPart(name=port.name, sizes=sizes, dtype=port.dtype, distribution=self._distribution)
            for port, sizes in zip(self.roles.latents, call.latents, strict=True)
        )


def _at_any_batch(
    model: onnx.ModelProto, given: Session, inputs: Inputs, batch: int, claim: str | None, said: list[str]
) -> tuple[onnx.ModelProto, int | None]:
    """Return the graph at any batch, and None; or as it is, and its batch.

    Raises:
        UnsupportedGenerator: it claims any batch and cannot be made to keep its word.
    """
    dynamic = rebatched(model, batch)
    try:
        reason = _mixed(Session(dynamic.SerializeToString()), given, inputs, batch)
    except UnsupportedGenerator as error:
        reason = str(error)
    if reason is None:
        compared = ", ".join(map(str, BATCHES))
        said.append(f"batch: any; it is written for {batch}, and at {compared} each row is what it is alone")
        return dynamic, None
    if claim is not None:
        raise UnsupportedGenerator(
            f"the graph claims any batch and keeps to one of {batch}: {claim}. Made dynamic, {reason}. Export it with "
            "a batch that is fixed, or with one that works"
        )
    said.append(f"batch: {batch}, and no other, since made dynamic, {reason}")
    return model, batch


def _mixed(whole: Session, alone: Session, inputs: Inputs, batch: int) -> str | None:
    """Return None if rows at several batches are what they are alone, else what is not."""
    latents = Latents(dim=inputs.latent_dim, distribution=inputs.distribution)
    for rows in BATCHES:
        labels = np.arange(rows) % inputs.classes if inputs.classes else None
        if reason := same_rows(whole, alone, inputs.feeds(latents.draw(rows, 2 * rows), labels), batch):
            return reason
    return None


class _Probe:
    """Samples of a generator, to tell by what it makes."""

    def __init__(self, given: Session, inputs: Inputs, batch: int) -> None:
        self._given, self._inputs, self._batch = given, inputs, batch
        self._latents = Latents(dim=inputs.latent_dim, distribution=inputs.distribution)

    def _run(self, start: int, first_class: int = 0) -> dict[str, NDArray[Any]]:
        """Return a batch from a sample on; the classes go down from the last one, which must be there."""
        labels = None
        if self._inputs.classes:
            labels = (self._inputs.classes - 1 - first_class - np.arange(self._batch)) % self._inputs.classes
        try:
            return self._given(self._inputs.feeds(self._latents.draw(start, start + self._batch), labels))
        except Exception as error:
            said = "" if labels is None else f", of {self._inputs.classes} classes (--label)"
            raise UnsupportedGenerator(f"the graph fails on a batch of {self._batch}{said}: {error}") from error

    def made(self, asked: Asked, said: list[str]) -> Made:
        """Return what it makes, of many samples, and raise unless that depends on what drives it."""
        first = self._run(0)
        name = choose_output(first, asked.output, said)
        count = min(_PROBED, max(_CHUNK, _PROBED_VALUES * len(first[name]) // max(first[name].size, 1)))
        runs = [first[name]] + [self._run(start)[name] for start in range(self._batch, count, self._batch)]
        found = describe(name, np.concatenate(runs), asked, said)
        if np.array_equal(first[name], self._run(count)[name]):
            raise UnsupportedGenerator(
                f"output {name} does not depend on the latents: other ones make the same samples (--latent, --output)"
            )
        if self._inputs.classes > 1 and np.array_equal(first[name], self._run(0, first_class=1)[name]):
            raise UnsupportedGenerator(
                f"output {name} does not depend on the labels: another class makes the same sample (--label, --output)"
            )
        return found


def _sentences(inputs: Inputs, noise: tuple[LatentPart, ...]) -> list[str]:
    """Say what drives the generator."""
    said = []
    for part in inputs.parts:
        many = f"{part.width} {part.distribution}"
        if part in noise:
            said.append(f"latents: {many}, in the place of what the graph draws by itself as {part.name}")
        else:
            sizes = ", ".join(map(str, ("batch", *part.sizes)))
            said.append(f"latents: {many}, its input {part.name} [{sizes}] (--latent, --latent-distribution)")
    if (label := inputs.label) is not None:
        said.append(f"labels: {label.classes} classes, its input {label.name} as {label.form} (--label)")
    return said
