"""The operator set of every bundle's graph, and the record of how it was exported."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import onnx

from gen_engine.engine.base.digests import sha256_bytes

OPSET = 20
"""The newest operator set that onnxruntime 1.20, the oldest one supported, and TensorRT 10 both read."""


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard's operator set that a model is written in."""
    return max((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def exported(model: bytes, packages: Sequence[str]) -> dict[str, Any]:
    """Return the graph's operator set and digest, and the versions of gen-engine and of the packages that made it."""
    return {
        "onnx": {"opset": opset(onnx.load_from_string(model)), "sha256": sha256_bytes(model)},
        "exported_with": {package: version(package) for package in ("gen-engine", *packages)},
    }
