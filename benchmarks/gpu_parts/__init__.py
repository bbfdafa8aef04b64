"""The parts of ``python benchmarks/gpu.py``: what only a machine with an NVIDIA GPU can show."""

from __future__ import annotations

from gpu_parts.contract import Part

PARTS = (
    Part(name="bus", what="memory of the GPU and the bus to it: the limits of the rest", seconds=45, module="bus"),
    Part(name="latents", what="the latents' kernel: its bits, its speed", seconds=90, module="latents"),
    Part(name="training", what="training steps, deterministic and resumed", seconds=150, module="training"),
    Part(
        name="onnxruntime",
        what="sampling lanes of ONNX Runtime CUDA, as exported and compiled",
        seconds=180,
        module="lanes",
        argument="onnxruntime",
    ),
    Part(name="tensorrt", what="engines of TensorRT", seconds=150, module="lanes", argument="tensorrt"),
    Part(name="tensorrt-rtx", what="engines of TensorRT-RTX", seconds=150, module="lanes", argument="tensorrt-rtx"),
    Part(name="several", what="one worker process per GPU", seconds=60, module="several"),
    Part(name="tests", what="the tests marked gpu", seconds=120, module="marked_tests"),
    Part(name="end-to-end", what="gen-engine sample and verify on the GPU", seconds=150, module="end_to_end"),
)
