"""A model of a table as an ONNX graph of look-ups.

The graph is built node by node instead of traced: a table may have 10,000 outputs, and each is two operators here. It
works on [D, B], so that a column's values are contiguous.

Shape suffixes: B batch, Z latents, D columns, T columns with a tail.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from gen_engine.engine.identity.bundle import LABELS_INPUT, LATENTS_INPUT
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.record import OPSET
from gen_engine.export.tables.builder import GraphBuilder, onnx_type
from gen_engine.export.tables.codes import draw_codes
from gen_engine.export.tables.decode import decode, tensor_name
from gen_engine.train.tables.model import TableModel

BATCH_AXIS = "batch"
"""Name of the dynamic axis. The sampler fixes it by this name."""

_LARGEST_FILE = 2**31 - 1


def to_onnx(model: TableModel) -> bytes:
    """Return the graph: ``latents`` float32 [batch, Z], ``labels`` int64 [batch] with a target, an output [batch] for
    each column.

    Raises:
        UnsupportedGenerator: its tables are larger than one ONNX file.
    """
    if model.size > _LARGEST_FILE:
        raise UnsupportedGenerator(
            f"the model's tables take {model.size / 2**30:.1f} GiB, and a bundle's one ONNX file holds at most 2 GiB: "
            "train a smaller model, such as one of fewer --components"
        )
    vector = [BATCH_AXIS]
    inputs = [helper.make_tensor_value_info(LATENTS_INPUT, TensorProto.FLOAT, [BATCH_AXIS, model.latent_dim])]
    if model.target is not None:
        inputs.append(helper.make_tensor_value_info(LABELS_INPUT, TensorProto.INT64, vector))
    visible = set(model.order)
    outputs = [
        helper.make_tensor_value_info(tensor_name(place), onnx_type(one.dtype), vector)
        for place, one in enumerate(model.columns)
        if place in visible
    ]
    built = _build(model)
    graph = helper.make_graph(built.nodes, "table", inputs, outputs, list(built.constants.values()))
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="gen-engine", ir_version=9
    )
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _build(model: TableModel) -> GraphBuilder:
    """Draw the codes, and decode them."""
    graph = GraphBuilder()
    transposed = graph.op("Transpose", LATENTS_INPUT, perm=[1, 0])
    u_ZB = graph.op("Mul", graph.op("Add", transposed, graph.scalar(1.0)), graph.scalar(0.5))
    drawing, decoding = graph.split(u_ZB, [model.codes.latents, model.latent_dim - model.codes.latents])
    codes_DB = draw_codes(model.codes, graph, drawing, None if model.target is None else LABELS_INPUT)
    decode(graph, model.columns, model.values, codes_DB, decoding, model.steps)
    return graph
