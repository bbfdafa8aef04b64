"""Variants of tiny bundles, made by hand: the canonical graph itself, or with its dense layer in low precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.base.processor import isa
from gen_engine.engine.identity.bundle import GENERATOR, Bundle
from gen_engine.engine.identity.variants import Graph, Variant, add_variant

TYPES = {"bf16": TensorProto.BFLOAT16, "fp16": TensorProto.FLOAT16}


def graph_in(bundle: Bundle, precision: str) -> Graph:
    """Return the bundle's graph with its dense layer in ``precision``; for fp32 the same computation in other bytes."""
    model = onnx.load_from_string(bundle.load(GENERATOR))
    if precision in TYPES:
        _cast_dense(model.graph, TYPES[precision])
    else:
        model.graph.doc_string = f"by hand, {precision}"
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    return Graph(onnx=data, sha256=sha256_bytes(data), precision=precision, origin="candidate", batch=None)


def make_variant(bundle: Bundle, target: str = "openvino", precision: str = "fp32", **changes: Any) -> Variant:
    """Return a record as ``gen-engine compile`` would write it on this machine."""
    fields: dict[str, Any] = {
        "name": f"{target}-{precision}",
        "target": target,
        "device": "cpu",
        "precision": precision,
        "batch": 4,
        "model": GENERATOR,
        "generator": bundle.files[GENERATOR].sha256,
        "lowerings": ("by-hand",),
        "built_for": {"processor": "this one", "isa": list(isa()), "runtime": f"{target} 1", "threads": 2},
        "speedup": 2.0,
        "speedup_at_1": 1.1,
        "gate": {"psnr_db": 60.5, "off_by_more_than_1": 0.001},
        "kernels": {"brgconv": 5},
        "table": [{"target": target, "precision": precision, "speedup": 2.0, "left": None}],
    }
    return Variant(**(fields | changes))


def with_variant(bundle: Bundle, target: str = "openvino", precision: str = "fp32", **changes: Any) -> Bundle:
    """Add a variant to the bundle, in place."""
    graph = graph_in(bundle, precision)
    return add_variant(bundle, make_variant(bundle, target, precision, **changes), {GENERATOR: graph.onnx})


def _cast_dense(graph: onnx.GraphProto, kind: int) -> None:
    (gemm,) = (node for node in graph.node if node.op_type == "Gemm")
    (weight,) = (tensor for tensor in graph.initializer if tensor.name == gemm.input[1])
    array = numpy_helper.to_array(weight).astype(helper.tensor_dtype_to_np_dtype(kind))
    assert array.dtype != np.float32
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    hidden, made = gemm.input[0], gemm.output[0]
    gemm.input[0], gemm.output[0] = "hidden_low", "made_low"
    at = list(graph.node).index(gemm)
    graph.node.insert(at, helper.make_node("Cast", [hidden], ["hidden_low"], to=kind))
    graph.node.insert(at + 2, helper.make_node("Cast", ["made_low"], [made], to=TensorProto.FLOAT))
