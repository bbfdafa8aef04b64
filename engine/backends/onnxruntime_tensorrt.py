"""TensorRT through ONNX Runtime's provider, which builds an engine of the graph for the local GPU.

Unmeasured: written from the provider's documentation and run only up to the point at which it needs a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gen_engine.engine.backends.cache import cache_directory
from gen_engine.engine.backends.cuda import cuda_ordinal
from gen_engine.engine.backends.onnxruntime import OnnxRuntimeBackend
from gen_engine.engine.identity.bundle import LABELS_INPUT, LATENTS_INPUT, Bundle

if TYPE_CHECKING:
    from gen_engine.engine.identity.variants import Graph


class OnnxRuntimeTensorRtBackend(OnnxRuntimeBackend):
    """A graph of a bundle as a TensorRT engine in one inference session. Unmeasured on a GPU.

    Building takes seconds to minutes; the engine and the timings behind it are kept in
    :func:`~gen_engine.engine.backends.cache.cache_directory`.

    Args:
        bundle: what to run.
        graph: its graph, in any precision: TensorRT is restricted to the graph's types.
        device: ``cuda`` or ``cuda:N``.
        batch: samples per call, at least 1.

    Raises:
        BackendUnavailable: the provider does not load here.
    """

    name = "onnxruntime-tensorrt"

    def _provider(self, bundle: Bundle, graph: Graph) -> tuple[str, Mapping[str, str]]:
        ordinal = cuda_ordinal(self.device, self.name, others="")
        cache = cache_directory(self.name, graph.sha256[:16])
        shapes = f"{LATENTS_INPUT}:{self.batch}x{bundle.latent.dim}"
        if bundle.labels is not None:
            shapes += f",{LABELS_INPUT}:{self.batch}"
        options = {
            "device_id": str(ordinal),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
        }
        # A job has only one shape: the batch is fixed and its tail is padded.
        options |= {f"trt_profile_{end}_shapes": shapes for end in ("min", "opt", "max")}
        return "TensorrtExecutionProvider", options

    def _reason(self, error: Exception | None) -> str:
        reason = f" ({' '.join(str(error).split())})" if error else ""
        return (
            f"device {self.device!r}: onnxruntime's TensorRT provider does not load here{reason}; it needs "
            "onnxruntime-gpu, an NVIDIA driver, and the CUDA, cuDNN and TensorRT 10 libraries of its release. "
            "Use --backend onnxruntime, with or without --device cpu"
        )
