"""Passes over an external graph, each checked: one that changes what the graph makes is left out, and that is noted.

The runtime decides, not a rule: the graph before and after a pass run on the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import version_converter

from gen_engine.export.errors import UnsupportedGenerator, quoted
from gen_engine.export.graph import NodeBuilder, initializer, parse
from gen_engine.export.record import OPSET
from gen_engine.export.session import Session

Change = Callable[[ir.Model], ir.Model]
"""Returns the changed graph; it may change the one it is given."""

Feeds = Mapping[str, NDArray[Any]]
_CLOSE = 1e-4


def difference(made: Feeds, expected: Feeds, close: float = _CLOSE) -> str | None:
    """Return what two graphs make otherwise by more than ``close``, or None."""
    for name, array in expected.items():
        if name not in made:
            return f"{name} is not made any more"
        other = made[name]
        if other.shape != array.shape:
            return f"{name} is {list(other.shape)} where it was {list(array.shape)}"
        if array.dtype.kind in "fiub" and not np.allclose(other, array, rtol=close, atol=close, equal_nan=True):
            error = float(np.nanmax(np.abs(other.astype(np.float64) - array.astype(np.float64))))
            return f"{name} is off by {error:.3g}"
    return None


class Checked:
    """Applies passes to a graph and leaves out those that break it.

    Args:
        model: the graph; it is not changed.
        feeds: a small batch of inputs.
        expected: what the graph makes of it.
        close: error that counts as equal.
    """

    def __init__(self, model: ir.Model, feeds: Feeds, expected: Feeds, close: float = _CLOSE) -> None:
        self.model = model
        self.left_out: list[str] = []
        """A sentence for each pass that is left out."""

        self.expected = expected
        self._feeds, self._close = feeds, close

    def apply(self, changes: Sequence[tuple[str, Change]]) -> None:
        """Apply all passes, or, if they break the graph together, one at a time those that do not."""
        reason, changed = self._tried([change for _, change in changes])
        if reason is None:
            self.model = changed
            return
        for name, change in changes:
            if reason := self.prefer(change):
                self.left_out.append(f"{name} is left out: with it, {reason}")

    def prefer(self, change: Change) -> str | None:
        """Apply a pass if it does not break the graph, and return what it breaks if it does."""
        reason, changed = self._tried([change])
        if reason is None:
            self.model = changed
        return reason

    def require(self, name: str, change: Change) -> None:
        """Apply a pass that nothing can do without.

        Raises:
            UnsupportedGenerator: it breaks the graph.
        """
        if reason := self.prefer(change):
            raise UnsupportedGenerator(f"{name} breaks the graph: {reason}; {_REPORT}")

    def _tried(self, changes: Sequence[Change]) -> tuple[str | None, ir.Model]:
        changed = self.model.clone()
        try:
            for change in changes:
                changed = change(changed)
            proto = ir.to_proto(changed)
            onnx.checker.check_model(proto)
            made = Session(proto.SerializeToString())(self._feeds)
        except Exception as error:  # a pass's own, the checker's or the runtime's, of no common base
            return quoted(error), changed
        return difference(made, self.expected, self._close), changed


_REPORT = "the file itself runs, so this is a fault of gen-engine or of onnx: please report it with the file"


def to_opset(model: ir.Model) -> ir.Model:
    """Return the graph in the operator set of a bundle's; a newer one stays if it has no older form.

    Raises:
        UnsupportedGenerator: an operator has no newer form.
    """
    current = int(model.graph.opset_imports.get("", 1))
    if current == OPSET:
        return model
    try:
        return parse(version_converter.convert_version(ir.to_proto(model), OPSET))
    except Exception as error:  # the converter's own, of no common base
        if current > OPSET:
            return model
        raise UnsupportedGenerator(
            f"operator set {current} cannot be converted to {OPSET}: {quoted(error)}; export the generator again with "
            f"opset_version={OPSET}"
        ) from error


def with_squeezed_axes(model: ir.Model) -> ir.Model:
    """Name the axes of every Squeeze that names none: else it drops the batch's axis where the batch is 1."""
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))
    shapes = {value.name: value.shape for node in inferred.graph for value in node.inputs if value is not None}
    for node in tuple(model.graph):
        value = node.inputs[0] if node.op_type == "Squeeze" else None
        shape = shapes.get(value.name) if value is not None else None
        if shape is None or len(node.inputs) > 1 or "axes" in node.attributes or not len(shape):
            continue
        sizes = [size for size in shape[1:] if isinstance(size, int)]
        if isinstance(shape[0], int) or len(sizes) < len(shape) - 1:
            continue
        axes = [axis for axis, size in enumerate(sizes, 1) if size == 1]
        if axes:
            node.resize_inputs(2)
            name = f"{node.outputs[0].name}_axes"
            node.replace_input_with(1, initializer(model.graph, name, np.array(axes, np.int64)))
        else:  # an empty list would mean all
            builder = NodeBuilder(model, node)
            builder.replace(builder.op("Identity", [value], [None, *sizes]))
    return model
