"""The usual ways to run a generator, one file each, each at its best settings."""

from __future__ import annotations

PEERS = {
    "ONNX Runtime, as exported": "peers.onnxruntime_naive:settings",
    "OpenVINO, as exported": "peers.openvino_naive:settings",
    "torch eager fp32": "peers.torch_eager:fp32",
    "torch eager bf16": "peers.torch_eager:bf16",
    "torch.compile bf16": "peers.torch_compile:bf16",
}
"""Name → a function that returns the settings to try. Its library is imported only when the peer is used."""

STACKS = {
    "ONNX Runtime + Pillow + webdataset": "peers.pillow_webdataset:onnxruntime_stacks",
    "torch eager + Pillow + webdataset": "peers.pillow_webdataset:torch_stacks",
}
"""Those that write a dataset: compared with ``gen-engine sample``, not with the generator alone."""

LIBRARIES = ("torch", "onnxruntime-gpu", "onnxruntime", "openvino", "webdataset", "pillow", "numpy")
"""Distributions whose versions are recorded with the figures."""
