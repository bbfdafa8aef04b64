"""An external graph analyzed: its interface, by looking at it and by running it, and a form for any batch.

What a graph draws becomes inputs first; from then on it is a function of its inputs.

Shape suffixes: B batch, Z latents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.engine.identity.latents import Latents
from gen_engine.export.errors import ParityError, UnsupportedGenerator, quoted
from gen_engine.export.external.call import Call, arguments, count_classes, find_call, refuse_open_split
from gen_engine.export.external.candidates import calls_of
from gen_engine.export.external.constants import bind_constants
from gen_engine.export.external.convert import Checked, to_opset, with_squeezed_axes
from gen_engine.export.external.inputs import Roles, assign, declared_outputs, ports
from gen_engine.export.external.interface import Inputs, Interface, LatentPart
from gen_engine.export.external.noise import lift, random_outputs, sizes_drawn, with_outputs
from gen_engine.export.external.overrides import Overrides
from gen_engine.export.external.probe import CHUNK, Probe
from gen_engine.export.external.read import ExternalGraph
from gen_engine.export.external.rebatch import BATCHES, rebatched, same_rows
from gen_engine.export.external.structure import classes_of
from gen_engine.export.graph import serialize
from gen_engine.export.record import OPSET
from gen_engine.export.session import Session

_TRIED = 7
"""A batch to try a dynamic graph at: of no size that a graph is likely to hold."""

_MIN_OPSET = 13
"""The oldest operator set in which a bundle's own nodes can be written."""

CLOSE = {None: 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Error that counts as equal, by the precision that a graph computes in: many roundings of one unit each."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A graph and how it is used."""

    given: Session
    """The graph as it was given, but with what it drew as inputs."""

    given_batch: int
    """A batch at which ``given`` makes a row of what it is alone: the one that it is written for, or 1 or 2."""

    draws: bool
    """True if it drew random numbers."""

    half: str | None
    """``float16`` or ``bfloat16`` if it computes in that."""

    model: ir.Model
    """The same in a bundle's operator set, at any batch if that could be."""

    interface: Interface


def analyze(graph: ExternalGraph, overrides: Overrides, notes: list[str], named: frozenset[str]) -> Analysis:
    """Infer how a graph is called and what it makes.

    Args:
        graph: as it was read.
        overrides: what the user states.
        notes: a sentence for each inference is appended.
        named: inputs that the user named as latents, whatever they look like.

    Raises:
        UnsupportedGenerator: no rule decides it, with what was observed and the flag that does; or a bundle cannot
            hold the graph.
        ParityError: it declares a dynamic batch, and a row depends on the other rows.
    """
    graph = _with_constants(graph, overrides, notes)
    driver = _Driver(graph, overrides)
    call, batch, claim = driver.call()
    call = driver.with_classes(call, batch or _TRIED)
    lifted, noise = lift(graph.model, driver.drawn_sizes(call, batch), driver.roles.batch)
    inputs = Inputs(parts=(*driver.parts(call), *noise), label=call.label)
    notes += _sentences(inputs, noise)
    given = Session(serialize(lifted)) if noise else graph.session
    close = CLOSE[graph.half]
    alone = batch or _alone(given, inputs)
    model = _converted(lifted, given, inputs, batch or _TRIED, graph.opset, close, notes)
    fixed = batch
    if batch is not None:
        model, fixed = _at_any_batch(model, given, inputs, batch, claim, close, notes)
    elif reason := _mixed(given if alone == 1 else Session(serialize(model)), given, inputs, alone, close):
        raise ParityError(f"the graph claims any batch, but {reason}: a sample depends on the batch that it is in")
    made = Probe(given, inputs, batch or CHUNK).made(model, overrides, named, notes)
    return Analysis(
        given=given,
        given_batch=alone,
        draws=bool(noise),
        half=graph.half,
        model=model,
        interface=Interface(inputs=inputs, made=made, batch=fixed),
    )


def _with_constants(graph: ExternalGraph, overrides: Overrides, notes: list[str]) -> ExternalGraph:
    if not overrides.constants:
        return graph
    bound = bind_constants(graph.model, ports(graph.model), overrides.constants)
    for name, value in overrides.constants.items():
        written = f"{value:g}" if isinstance(value, int | float) else f"an array {list(value.shape)}"
        notes.append(f"constant: {name}, {written} for every sample (--constant)")
    return replace(graph, model=bound, session=Session(serialize(bound)))


class _Driver:
    """A graph as it was given: what its inputs are for, and how it is called."""

    def __init__(self, graph: ExternalGraph, overrides: Overrides) -> None:
        self._model, self._overrides = graph.model, overrides
        inputs = ports(graph.model)
        self.roles: Roles = assign(inputs, declared_outputs(graph.model), overrides)
        self._random = random_outputs(graph.model)
        if not self.roles.latents and not self._random:
            there = ", ".join(map(str, inputs)) or "nothing"
            raise UnsupportedGenerator(
                f"the graph has no latents: it takes {there} and draws no random numbers, so all its samples "
                "would be the same"
            )
        self._outputs = [str(output.name) for output in graph.model.graph.outputs]
        tapped = with_outputs(graph.model, self._random) if self._random else None
        self._session = graph.session if tapped is None else Session(serialize(tapped))

    def _run(self, latents: Any, labels: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
        ports_ = self.roles.latents
        feeds = {port.name: array.astype(port.dtype) for port, array in zip(ports_, latents, strict=True)}
        if self.roles.label is not None and labels is not None:
            feeds[self.roles.label.name] = labels
        return self._session(feeds)

    def _made(self, latents: Any, labels: NDArray[Any] | None) -> list[NDArray[Any]]:
        made = self._run(latents, labels)
        return [made[name] for name in self._outputs]

    def call(self) -> tuple[Call, int | None, str | None]:
        """Return how it is called, its batch (None: any), and if it claims any and has one, what became of others."""
        batch = self.roles.batch
        if not self.roles.latents and self.roles.label is None:  # all that it takes, it draws
            batch = max(len(output) for output in self._made([], None) if output.ndim)
        if batch is not None:
            return self._find(batch), batch, None
        try:
            return self._find(_TRIED), None, None
        except UnsupportedGenerator as refused:
            try:
                return self._find(1), 1, str(refused)
            except UnsupportedGenerator:
                raise refused from None

    def _find(self, batch: int) -> Call:
        calls = calls_of(self._model, self.roles, self._overrides)
        call = find_call(self._made, calls, batch, self._overrides.undecided)
        if self._overrides.splits:
            refuse_open_split(self._made, call, batch)
        return call

    def with_classes(self, call: Call, batch: int) -> Call:
        """Return the call with its number of classes: as stated, of the table that ids lead to, or by running."""
        if call.label is None or call.label.form == "one-hot":
            return call
        known = call.label.classes or classes_of(self._model, call.label.name)
        classes = known or count_classes(self._made, call, batch)
        label = replace(call.label, classes=classes)
        try:
            self._made(arguments(call, batch)[0], label.encoded(np.full(batch, classes - 1, np.int64)))
        except Exception as error:  # ONNX Runtime's, of no common base
            raise UnsupportedGenerator(
                f"the graph fails on the last of {classes} classes (--label): {quoted(error)}"
            ) from error
        return replace(call, label=label)

    def drawn_sizes(self, call: Call, batch: int | None) -> dict[str, tuple[int, ...]]:
        """Return the sizes, after the batch, of what the graph draws."""
        batches = [2, 3] if batch is None else [batch]
        runs = [self._run(*arguments(call, b)) for b in batches] if self._random else []
        return sizes_drawn({name: [run[name].shape for run in runs] for name in self._random}, batches)

    def parts(self, call: Call) -> tuple[LatentPart, ...]:
        """Return the inputs that are latents, with the sizes of the call."""
        return tuple(
            LatentPart(name=port.name, sizes=sizes, dtype=port.dtype, distribution=self._overrides.distribution)
            for port, sizes in zip(self.roles.latents, call.latents, strict=True)
        )


def _feeds(inputs: Inputs, rows: int) -> dict[str, NDArray[Any]]:
    """Return a batch of inputs by name: latents of their own for each number of rows."""
    latents = Latents(dim=inputs.latent_dim, distribution=inputs.distribution)
    labels = np.arange(rows) % inputs.classes if inputs.classes else None
    return inputs.feeds(latents.draw(rows, 2 * rows), labels)


def _alone(given: Session, inputs: Inputs) -> int:
    """Return the smallest batch at which a graph of any batch makes a row per sample: 1, or 2 if 1 is squeezed away."""
    sizes = {name: array.shape[1:] for name, array in given(_feeds(inputs, 2)).items()}
    try:
        made = given(_feeds(inputs, 1))
    except Exception:  # ONNX Runtime's, of no common base
        return 2
    return 1 if all(array.shape == (1, *sizes[name]) for name, array in made.items() if sizes[name]) else 2


def _converted(
    model: ir.Model, given: Session, inputs: Inputs, rows: int, current: int, close: float, notes: list[str]
) -> ir.Model:
    """Return the graph in the operator set of a bundle."""
    feeds = _feeds(inputs, rows)
    passes = Checked(model, feeds, given(feeds), close)
    if current >= _MIN_OPSET:
        passes.apply([(f"the conversion from operator set {current} to {OPSET}", to_opset)])
    else:
        passes.require(f"the conversion from operator set {current} to {OPSET}", to_opset)
    passes.apply([("naming the axes of Squeeze", with_squeezed_axes)])
    notes += passes.left_out
    if current != (converted := passes.model.graph.opset_imports.get("", current)):
        notes.append(f"operator set {current}, converted to {converted}")
    return passes.model


def _at_any_batch(
    model: ir.Model, given: Session, inputs: Inputs, batch: int, claim: str | None, close: float, notes: list[str]
) -> tuple[ir.Model, int | None]:
    """Return the graph at any batch, and None; or as it is, and its batch.

    Raises:
        UnsupportedGenerator: it declares a dynamic batch, and cannot be made to run at any.
    """
    dynamic = with_squeezed_axes(rebatched(model, batch))
    try:
        reason = _mixed(Session(serialize(dynamic)), given, inputs, batch, close)
    except UnsupportedGenerator as error:
        reason = str(error)
    if reason is None:
        compared = ", ".join(map(str, BATCHES))
        notes.append(f"batch: any; it is written for {batch}, and at {compared} each row is what it is alone")
        return dynamic, None
    if claim is not None:
        raise UnsupportedGenerator(
            f"the graph claims any batch and runs only at {batch}: {claim}. Made dynamic, {reason}. Export it with a "
            "batch that is fixed, or with one that works"
        )
    notes.append(f"batch: {batch}, and no other, since made dynamic, {reason}")
    return model, batch


def _mixed(whole: Session, alone: Session, inputs: Inputs, batch: int, close: float) -> str | None:
    """Return None if rows at several batches are what they are alone, else what is not."""
    for rows in BATCHES:
        if reason := same_rows(whole, alone, _feeds(inputs, rows), batch, close):
            return reason
    return None


def _sentences(inputs: Inputs, noise: tuple[LatentPart, ...]) -> list[str]:
    """Return what drives the generator."""
    notes = []
    for part in inputs.parts:
        many = f"{part.width} {part.distribution}"
        if part in noise:
            notes.append(f"latents: {many}, in the place of what the graph draws as {part.name}")
        else:
            sizes = ", ".join(map(str, ("batch", *part.sizes)))
            notes.append(f"latents: {many}, its input {part.name} [{sizes}] (--latent, --latent-distribution)")
    if (label := inputs.label) is not None:
        notes.append(f"labels: {label.classes} classes, its input {label.name} as {label.form} (--label)")
    return notes
