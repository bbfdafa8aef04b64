"""What people use today to run a generator, one file each, every one at its best settings."""

from __future__ import annotations

PEERS = {
    "ONNX Runtime, as exported": "peers.onnxruntime_naive:settings",
    "OpenVINO, as exported": "peers.openvino_naive:settings",
    "torch eager fp32": "peers.torch_eager:fp32",
    "torch eager bf16": "peers.torch_eager:bf16",
    "torch.compile bf16": "peers.torch_compile:bf16",
}
"""Name → the function that says in which settings it can run. Its library is imported then and not before."""

STACKS = {
    "ONNX Runtime + Pillow + webdataset": "peers.pillow_webdataset:onnxruntime_stacks",
    "torch eager + Pillow + webdataset": "peers.pillow_webdataset:torch_stacks",
}
"""Those that write a dataset: beside ``gen-engine sample``, not beside its generator alone."""

LIBRARIES = ("torch", "onnxruntime-gpu", "onnxruntime", "openvino", "webdataset", "pillow", "numpy")
"""Distributions whose versions belong to the figures."""
