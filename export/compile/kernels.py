"""Which kernels a runtime really chose: the requested precision does not determine them.

OpenVINO's backend looks at its runtime model when it is opened, and refuses a graph that it computes in another
precision than the graph's. ONNX Runtime reports it in the profile of a run, which this module reads.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.base.files import LISTING, read_bounded
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.identity.bundle import LABELS_INPUT, LATENTS_INPUT, Bundle
from gen_engine.engine.identity.variants import Graph

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "QGemm", "QLinearConv", "QLinearMatMul")
"""Prefixes of the names, after fusion, of the operators that compute a matrix product there."""

_QUANTIZED = ("QGemm", "QLinear", "MatMulInteger", "ConvInteger")


def kernels_of(backend: Backend, graph: Graph, bundle: Bundle) -> dict[str, int]:
    """Return the kernels of a graph's matrix products, each with how many layers it computes.

    Raises:
        BackendUnavailable: an int8 graph has no layer that is computed in int8.
    """
    chosen = getattr(backend, "kernels", None)
    if isinstance(chosen, Mapping):
        return dict(chosen)
    kernels = _profiled(graph, bundle)
    if graph.precision == "int8" and not any(name.startswith(_QUANTIZED) for name in kernels):
        raise BackendUnavailable(
            f"precision 'int8': onnxruntime computes none of the layers of bundle {bundle.name} in it "
            f"({', '.join(kernels)}); use --target openvino"
        )
    return kernels


def _profiled(graph: Graph, bundle: Bundle) -> dict[str, int]:
    """Run one batch under ONNX Runtime's profiler."""
    batch = graph.batch or 1
    feeds: dict[str, Any] = {LATENTS_INPUT: np.zeros((batch, bundle.latent.dim), np.float32)}
    if bundle.labels is not None:
        feeds[LABELS_INPUT] = np.zeros(batch, np.int64)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(graph.onnx, options, providers=["CPUExecutionProvider"])
        session.run(None, feeds)
        events = json.loads(read_bounded(session.end_profiling(), LISTING))
    run = [event["args"] for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
    return dict(Counter(args["op_name"] for args in run if args["op_name"].startswith(_PRODUCTS)))
