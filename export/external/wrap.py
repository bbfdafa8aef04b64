"""The canonical graph of a bundle around an external graph: its inputs before it, what is stored after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    IdentityEliminationPass,
    NameFixPass,
    RemoveUnusedNodesPass,
    TopologicalSortPass,
)

from gen_engine.engine.base.levels import TOP
from gen_engine.engine.identity.bundle import IMAGES_OUTPUT, LABELS_INPUT, LATENTS_INPUT, PIXELS_OUTPUT
from gen_engine.engine.identity.latents import Latents
from gen_engine.export.external.analysis import CLOSE, Analysis
from gen_engine.export.external.convert import Change, Checked
from gen_engine.export.external.interface import Interface, LabelPart, LatentPart, Made
from gen_engine.export.graph import initializer, serialize
from gen_engine.export.session import Session

BATCH_AXIS = "batch"
_IR_VERSION = 10
_ROWS = 3
"""Samples by which passes are checked."""

_FLOAT, _INT64, _UINT8 = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.UINT8


def wrap(analysis: Analysis, notes: list[str]) -> bytes:
    """Return the bundle's graph: ``latents`` and ``labels`` in, ``images`` and ``pixels`` out, the same bytes always.

    Args:
        analysis: the graph and how it is used.
        notes: gets a sentence for each pass that is left out.

    Raises:
        UnsupportedGenerator: the graph that results is not valid ONNX, or differs from the one that was given.
    """
    interface = analysis.interface
    rows = interface.batch or _ROWS
    inputs = interface.inputs
    z_BZ = Latents(dim=inputs.latent_dim, distribution=inputs.distribution).draw(0, rows)
    labels_B = np.arange(rows) % inputs.classes if inputs.classes else None
    given = inputs.feeds(z_BZ, labels_B)
    close = CLOSE[analysis.half]
    before = Checked(analysis.model, given, Session(serialize(analysis.model))(given), close)
    before.apply([("elimination of Identity", _in_place(IdentityEliminationPass))])
    images = interface.samples(before.expected[interface.made.name])
    feeds: dict[str, NDArray[Any]] = {LATENTS_INPUT: z_BZ} | ({} if labels_B is None else {LABELS_INPUT: labels_B})
    after = Checked(before.model, feeds, {IMAGES_OUTPUT: images}, close)
    after.require("adding a bundle's inputs and outputs", lambda graph: _wrapped(graph, interface))
    after.apply([("removal of unused nodes", _in_place(RemoveUnusedNodesPass))])
    after.require("removing what the graph does not compute with", _stripped)
    notes += [*before.left_out, *after.left_out]
    return serialize(after.model)


def _in_place(change: Callable[[], ir.passes.InPlacePass]) -> Change:
    def changed(graph: ir.Model) -> ir.Model:
        change()(graph)
        return graph

    return changed


def _wrapped(graph: ir.Model, interface: Interface) -> ir.Model:
    _Wrapper(graph.graph, interface).wrap()
    for change in (TopologicalSortPass(), NameFixPass()):
        change(graph)
    return graph


def _stripped(graph: ir.Model) -> ir.Model:
    """Remove what depends on where the graph is from, and shapes inside, stated for another batch or converter."""
    for node in graph.graph.all_nodes():
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = output.type = None
    ClearMetadataAndDocStringPass()(graph)
    graph.ir_version, graph.producer_name, graph.producer_version = _IR_VERSION, "gen-engine", ""
    graph.graph.name, graph.domain, graph.model_version, graph.doc_string = "generator", None, None, None
    graph.metadata_props.clear()
    return graph


class _Wrapper:
    """Adds nodes to one graph. They are sorted afterwards."""

    def __init__(self, graph: ir.Graph, interface: Interface) -> None:
        self._graph, self._interface = graph, interface
        self._rows: int | str = BATCH_AXIS if interface.batch is None else interface.batch
        self._made = 0

    def wrap(self) -> None:
        """Replace the graph's inputs and outputs."""
        interface = self._interface
        inputs = {str(value.name): value for value in self._graph.inputs}
        made = next(value for value in self._graph.outputs if value.name == interface.made.name)
        self._graph.inputs.clear()
        self._graph.outputs.clear()
        values = (value for node in self._graph for value in node.outputs)
        for taken in (*inputs.values(), *self._graph.initializers.values(), *values):
            if taken.name in (LATENTS_INPUT, LABELS_INPUT, IMAGES_OUTPUT, PIXELS_OUTPUT):
                taken.name = f"{taken.name}_inside"
        latents = self._input(LATENTS_INPUT, _FLOAT, [interface.inputs.latent_dim])
        for part, share in zip(interface.inputs.parts, self._shares(latents), strict=True):
            self._replace(inputs[part.name], self._part(share, part))
        if interface.inputs.label is not None:
            labels = self._input(LABELS_INPUT, _INT64, [])
            self._replace(inputs[interface.inputs.label.name], self._labels(labels, interface.inputs.label))
        images = self._images(made, interface.made)
        self._output(images, IMAGES_OUTPUT, _FLOAT, interface.made.channels_first)
        stored = _UINT8 if interface.made.modality == "image" else _FLOAT
        self._output(self._stored(images, interface.made), PIXELS_OUTPUT, stored, interface.made.shape)

    def _shares(self, latents: ir.Value) -> Sequence[ir.Value]:
        parts = self._interface.inputs.parts
        if len(parts) == 1:
            return [latents]
        node = ir.node(
            "Split",
            [latents, self._constant(np.array([part.width for part in parts], np.int64))],
            attributes={"axis": 1},
            num_outputs=len(parts),
        )
        for i, output in enumerate(node.outputs):
            output.name = f"{LATENTS_INPUT}_{i}"
        self._graph.append(node)
        return node.outputs

    def _part(self, share: ir.Value, part: LatentPart) -> ir.Value:
        if part.distribution != self._interface.inputs.distribution:  # 2 Φ(z) − 1 of a normal z is uniform over (-1, 1)
            share = self._op("Erf", [self._op("Mul", [share, self._constant(np.float32(math.sqrt(0.5)))])])
        if part.sizes != (part.width,):
            share = self._reshape(share, part.sizes)
        return self._cast(share, part.dtype)

    def _labels(self, labels: ir.Value, label: LabelPart) -> ir.Value:
        if label.form == "one-hot":  # a row of the unit matrix: the runtime refuses a class that is not there
            hot = self._op("Gather", [self._constant(np.eye(label.classes, dtype=label.dtype)), labels])
            return self._reshape(hot, (label.classes, *(1,) * label.axes)) if label.axes else hot
        if label.form == "column":
            labels = self._reshape(labels, (1,))
        return labels if label.dtype == np.int64 else self._cast(labels, label.dtype)

    def _images(self, made: ir.Value, form: Made) -> ir.Value:
        value = self._op("Cast", [made], {"to": int(_FLOAT)}) if made.dtype != _FLOAT else made
        perm = form.perm()
        if perm is not None:
            value = self._op("Transpose", [value], {"perm": perm})
        elif len(form.layout) < len(form.channels_first) + 1 or form.layout == "flat":
            value = self._reshape(value, form.channels_first)
        scale, shift = form.affine()
        if (scale, shift) == (1.0, 0.0):
            return value
        scaled = self._op("Mul", [value, self._constant(np.float32(scale))])
        return self._op("Add", [scaled, self._constant(np.float32(shift))])

    def _stored(self, images: ir.Value, form: Made) -> ir.Value:
        """Return what :func:`~gen_engine.export.torch_graph.to_pixels` makes, or the values, channels last."""
        value = images
        if form.modality == "image":
            half = self._constant(np.float32(TOP["uint8"] / 2))
            level = self._op("Round", [self._op("Add", [self._op("Mul", [value, half]), half])])
            bounds = [self._constant(np.float32(0)), self._constant(np.float32(TOP["uint8"]))]
            value = self._op("Cast", [self._op("Clip", [level, *bounds])], {"to": int(_UINT8)})
        axes = len(form.shape) + 1
        return value if axes == 2 else self._op("Transpose", [value], {"perm": [0, *range(2, axes), 1]})

    def _input(self, name: str, dtype: ir.DataType, sizes: Sequence[int]) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape([self._rows, *sizes]), type=ir.TensorType(dtype))
        self._graph.inputs.append(value)
        return value

    def _output(self, value: ir.Value, name: str, dtype: ir.DataType, sizes: Sequence[int]) -> None:
        if value.producer() is None or value.name in (
            IMAGES_OUTPUT,
            PIXELS_OUTPUT,
        ):  # a vector's one value
            value = self._op("Identity", [value])
        value.name, value.type = name, ir.TensorType(dtype)
        value.shape = ir.Shape([self._rows, *sizes])
        self._graph.outputs.append(value)

    def _replace(self, old: ir.Value, new: ir.Value) -> None:
        ir.convenience.replace_all_uses_with(old, new)

    def _cast(self, value: ir.Value, dtype: np.dtype[Any]) -> ir.Value:
        to = ir.DataType.from_numpy(dtype)
        return value if to == _FLOAT else self._op("Cast", [value], {"to": int(to)})

    def _reshape(self, value: ir.Value, sizes: Sequence[int]) -> ir.Value:
        return self._op("Reshape", [value, self._constant(np.array([-1, *sizes], np.int64))])

    def _op(self, op_type: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any] | None = None) -> ir.Value:
        node = ir.node(op_type, inputs, attributes=dict(attributes or {}))
        self._graph.append(node)
        (value,) = node.outputs
        value.name = self._name()
        return value

    def _constant(self, array: NDArray[Any] | np.generic) -> ir.Value:
        return initializer(self._graph, self._name(), array)

    def _name(self) -> str:
        self._made += 1
        return f"bundle_{self._made}"
