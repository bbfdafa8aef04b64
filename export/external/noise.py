"""Random numbers that a graph draws become inputs, so that a sample is a function of its latents alone.

A normal or uniform operator is the standard distribution, scaled and shifted; Bernoulli compares a uniform number with
its probability.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.interface import LatentPart
from gen_engine.export.graph import NodeBuilder, attribute, constant, parse

_DISTRIBUTION = {
    "RandomNormal": "normal",
    "RandomNormalLike": "normal",
    "RandomUniform": "uniform",
    "RandomUniformLike": "uniform",
    "Bernoulli": "uniform",
}


def random_outputs(model: ir.Model) -> list[str]:
    """Return the names of what a graph draws, in order.

    Raises:
        UnsupportedGenerator: it draws from a distribution that has no form as latents, or in a branch or a loop; or it
            drops out values, as in training.
    """
    names = []
    for node in model.graph.all_nodes():
        if node.op_type == "Multinomial":
            raise UnsupportedGenerator(
                f"the graph draws random numbers with Multinomial ({node.outputs[0].name}), which has no form as "
                "latents; make what it draws an input of the graph"
            )
        if node.op_type == "Dropout" and _trains(node):
            raise UnsupportedGenerator(
                f"the graph drops out values as in training (Dropout, {node.outputs[0].name}); export the generator in "
                "eval mode"
            )
        if node.op_type not in _DISTRIBUTION:
            continue
        if node.graph is not model.graph:
            raise UnsupportedGenerator(
                f"the graph draws random numbers in a branch or a loop ({node.op_type}, {node.outputs[0].name}); make "
                "them an input of the graph"
            )
        names.append(str(node.outputs[0].name))
    return names


def with_outputs(model: ir.Model, names: list[str]) -> ir.Model:
    """Return the graph with some of its values as outputs too."""
    tapped = model.clone()
    there = {output.name for output in tapped.graph.outputs}
    values = {output.name: output for node in tapped.graph for output in node.outputs}
    tapped.graph.outputs.extend(values[name] for name in names if name not in there)
    return tapped


def sizes_drawn(shapes: Mapping[str, list[tuple[int, ...]]], batches: list[int]) -> dict[str, tuple[int, ...]]:
    """Return what a sample needs of each drawn value, from its shapes at some batches.

    Numbers that all samples of a batch share become each sample's own: at a batch of one they are the same.

    Raises:
        UnsupportedGenerator: the batch is not the first axis of it.
    """
    sizes = {}
    for name, seen in shapes.items():
        rows = [shape[:1] for shape in seen]
        if len({shape[1:] for shape in seen}) > 1 or rows not in ([(b,) for b in batches], [(1,)] * len(batches)):
            raise UnsupportedGenerator(
                f"the graph draws {name} of shapes {[list(shape) for shape in seen]} at batches {batches}: not a row "
                "of its own for each sample; make it an input of the graph"
            )
        sizes[name] = seen[0][1:]
    return sizes


def lift(
    model: ir.Model, sizes: Mapping[str, tuple[int, ...]], batch: int | None
) -> tuple[ir.Model, tuple[LatentPart, ...]]:
    """Return the graph with an input in the place of each random operator, and these inputs.

    Args:
        model: the graph.
        sizes: what a sample needs of each value of :func:`random_outputs`.
        batch: the batch that the graph is written for; None: any.
    """
    if not sizes:
        return model, ()
    # What is drawn may have the type of a value.
    graph = parse(onnx.shape_inference.infer_shapes(ir.to_proto(model)))
    parts = []
    for node in tuple(_drawing(graph, sizes)):
        name = str(node.outputs[0].name)
        part = LatentPart(
            name=f"{name}_drawn",
            sizes=sizes[name],
            dtype=np.dtype(np.float32),
            distribution=_DISTRIBUTION[node.op_type],
        )
        shape = ir.Shape(["batch" if batch is None else batch, *part.sizes])
        value = ir.Value(name=part.name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
        graph.graph.inputs.append(value)
        builder = NodeBuilder(graph, node)
        builder.replace(_drawn(builder, node, value, part))
        parts.append(part)
    RemoveUnusedNodesPass()(graph)
    return graph, tuple(parts)


def _drawing(graph: ir.Model, sizes: Mapping[str, tuple[int, ...]]) -> Iterator[ir.Node]:
    for node in graph.graph:
        if node.op_type in _DISTRIBUTION and node.outputs[0].name in sizes:
            yield node


def _drawn(builder: NodeBuilder, node: ir.Node, value: ir.Value, part: LatentPart) -> ir.Value:
    """Return what the operator draws, made of a standard normal or of a uniform number over (-1, 1)."""
    shape = [None, *part.sizes]
    scale, shift = 0.5, 0.5
    if part.distribution == "normal":
        scale, shift = attribute(node, "scale", 1.0), attribute(node, "mean", 0.0)
    elif node.op_type != "Bernoulli":
        low, high = attribute(node, "low", 0.0), attribute(node, "high", 1.0)
        scale, shift = (high - low) / 2, (high + low) / 2
    for operator, number, neutral in (("Mul", scale, 1.0), ("Add", shift, 0.0)):
        if number != neutral:
            value = builder.op(operator, [value, builder.constant(np.array(number, np.float32))], shape)
    if node.op_type == "Bernoulli":
        likely = builder.op("Cast", [node.inputs[0]], shape, {"to": int(ir.DataType.FLOAT)})
        likely.type = ir.TensorType(ir.DataType.FLOAT)
        value = builder.op("Less", [value, likely], shape)
        value.type = ir.TensorType(ir.DataType.BOOL)
    dtype = _dtype(node)
    if dtype != ir.DataType.FLOAT or node.op_type == "Bernoulli":
        value = builder.op("Cast", [value], shape, {"to": int(dtype)})
        value.type = ir.TensorType(dtype)
    return value


def _dtype(node: ir.Node) -> ir.DataType:
    given: Any = attribute(node, "dtype", None)
    if given is not None:
        return ir.DataType(given)
    like = node.inputs[0] if node.inputs else None
    return like.dtype if like is not None and like.dtype is not None else ir.DataType.FLOAT


def _trains(node: ir.Node) -> bool:
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    if mode is None:
        return False
    known = constant(mode)
    return known is None or bool(known)
