"""An ONNX graph as a torch module: what ONNX Runtime computes, with gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.attack.classifier import Classifier, Scaling, make_classifier
from gen_engine.evaluate.attack.operators import OPERATORS
from gen_engine.evaluate.attack.perturb import as_levels

if TYPE_CHECKING:
    import onnx_ir as ir

_LISTED: Final = 12
_CLOSE: Final = 1e-3
"""Largest difference from the runtime's scores, of the largest score: several times what float32 kernels differ by."""


class GraphModule(nn.Module):
    """A graph of one float32 input that computes one of its outputs, node by node.

    Args:
        model: the graph, in a recent operator set, its constants as initializers.
        output: the name of the output.
        what: what messages call it.
        before_softmax: return what a last softmax is of, whose gradient does not vanish where it is certain.

    Raises:
        RequestError: it has operators that are not here, or several inputs.
    """

    def __init__(self, model: ir.Model, output: str, what: str, *, before_softmax: bool) -> None:
        super().__init__()
        graph = model.graph
        inputs = [value for value in graph.inputs if value.name not in graph.initializers]
        if len(inputs) != 1:
            names = ", ".join(str(value.name) for value in inputs) or "none"
            raise RequestError(f"{what} has the inputs {names}: a classifier of images has one")
        self.input = str(inputs[0].name)
        final = next(value for value in graph.outputs if value.name == output)
        maker = final.producer()
        if before_softmax and maker is not None and maker.op_type in ("Softmax", "LogSoftmax"):  # of [N, K]
            assert maker.inputs[0] is not None, "ONNX requires it"
            final = maker.inputs[0]
        self.output = str(final.name)
        self._steps = [_step(node) for node in _needed(graph, final)]
        unknown = Counter(op for op, *_ in self._steps if op not in OPERATORS)
        if unknown:
            listed = ", ".join(f"{name} ({count}×)" for name, count in sorted(unknown.items())[:_LISTED])
            raise RequestError(
                f"{what} has operators without a gradient here: {listed}; attack the torch module that it was exported "
                "from instead: --classifier PACKAGE.MODULE:FACTORY --weights FILE"
            )
        self._names: list[str] = []
        for number, (name, value) in enumerate(graph.initializers.items()):
            assert value.const_value is not None, "an initializer has a value"
            self.register_buffer(f"_value{number}", torch.from_numpy(value.const_value.numpy().copy()))
            self._names.append(name)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the output for images, float32 [N, C, H, W]."""
        known: dict[str, Tensor | None] = {name: getattr(self, f"_value{at}") for at, name in enumerate(self._names)}
        known |= {self.input: images_NCHW, "": None}
        for op, attributes, inputs, output in self._steps:
            known[output] = OPERATORS[op](attributes, *[known[name] for name in inputs])
        made = known[self.output]
        assert made is not None, "an output has a value"
        return made


def _needed(graph: ir.Graph, final: ir.Value) -> list[ir.Node]:
    """Return the nodes that a value needs, in the graph's order, which is that of computation."""
    wanted, todo = set(), [final]
    while todo:
        maker = todo.pop().producer()
        if maker is not None and maker not in wanted:
            wanted.add(maker)
            todo += [value for value in maker.inputs if value is not None]
    return [node for node in graph if node in wanted]


def _step(node: ir.Node) -> tuple[str, Mapping[str, Any], list[str], str]:
    attributes = {name: one.value for name, one in node.attributes.items()}
    inputs = ["" if value is None else str(value.name) for value in node.inputs]
    return node.op_type, attributes, inputs, str(node.outputs[0].name)


def graph_classifier(
    model: ir.Model,
    run: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]],
    *,
    name: str,
    sha256: str,
    scaling: Scaling,
    classes: int,
    images_NHWC: NDArray[np.uint8],
) -> Classifier:
    """Return a graph as a classifier with gradients, checked against a runtime on these images.

    Args:
        model: the graph, in a recent operator set.
        run: computes all outputs of the graph by name, as ONNX Runtime does.
        name: what messages and plans call it.
        sha256: of its file.
        scaling: the scale of its input.
        classes: how many the dataset has.
        images_NHWC: uint8 [N, H, W, C], a whole batch of the dataset.

    Raises:
        RequestError: it fails, has no output or several of a score per class, has operators that are not here, or
            computes something else here than in the runtime.
    """
    what = f"classifier {name}"
    inputs = [value.name for value in model.graph.inputs if value.name not in model.graph.initializers]
    levels_NCHW = as_levels(images_NHWC)
    try:
        made = run({str(one): scaling(levels_NCHW).numpy() for one in inputs})
    except Exception as error:  # the runtime's own, of no common base
        raise RequestError(
            f"{what} fails on float32 {list(levels_NCHW.shape)}: {' '.join(str(error).split())[:300]}; the images "
            "of the dataset have this size, and --batch sets how many there are: give a fixed one of the graph's"
        ) from error
    fitting = [one for one, values in made.items() if values.shape == (len(images_NHWC), classes)]
    if len(fitting) != 1:
        shapes = ", ".join(f"{one} {list(values.shape)}" for one, values in made.items())
        raise RequestError(
            f"{what} has the outputs {shapes}, and one has to be [{len(images_NHWC)}, {classes}], a score per class of "
            "the dataset"
        )
    whole = GraphModule(model, fitting[0], what, before_softmax=False)
    scores = Classifier(whole, name, sha256, scaling, classes).scores(levels_NCHW, "the first batch").numpy()
    expected = np.asarray(made[fitting[0]], np.float64)
    apart = float(np.abs(scores - expected).max() / max(1.0, np.abs(expected).max()))
    if not apart <= _CLOSE:
        raise RequestError(
            f"{what} computes other scores in torch than in ONNX Runtime, by {apart:.2g} of the largest: its gradient "
            "would be another model's; attack the torch module that it was exported from"
        )
    return make_classifier(
        GraphModule(model, fitting[0], what, before_softmax=True),
        name=name,
        sha256=sha256,
        scaling=scaling,
        classes=classes,
    )
