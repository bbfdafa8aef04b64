"""ONNX Runtime: the CPU, and CUDA without its silent fallback.

A lane computes on the thread that calls it (one intra-op thread), so lanes share one session and nothing else, and
how many there are cannot change how a matrix product is cut up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.bundle import GENERATOR, LABELS_INPUT, LATENTS_INPUT, PIXELS_OUTPUT, Bundle
from gen_engine.engine.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    import onnxruntime

INSTALL = "pip install onnxruntime-gpu (Linux x86-64) or onnxruntime (elsewhere), never both"


class OnnxRuntimeBackend:
    """The bundle's canonical graph in one inference session.

    Args:
        bundle: what to run.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, the precision of the canonical graph.
        batch: samples a call, at least 1.

    Raises:
        BackendUnavailable: this device or precision does not work here.
        BackendError: the runtime refused the graph.
    """

    name = "onnxruntime"
    precision = "fp32"

    def __init__(self, bundle: Bundle, *, device: str = "cpu", precision: str = "fp32", batch: int) -> None:
        if precision != self.precision:
            raise BackendUnavailable(
                f"precision {precision!r}: onnxruntime runs this bundle in fp32 only; use --precision fp32"
            )
        self.batch = batch
        self.device = "cuda:0" if device == "cuda" else device
        self._shape = (batch, *bundle.output.shape)
        runtime = _import_runtime()
        self.version = str(runtime.__version__)
        self._session = _open_session(runtime, bundle, self.device, batch)

    def lane(self) -> OnnxRuntimeLane:
        """Open a lane; all lanes share the session, which is safe to call from any thread."""
        return OnnxRuntimeLane(self._session, self._shape)


class OnnxRuntimeLane:
    """Runs each batch when it is submitted."""

    depth = 1

    def __init__(self, session: onnxruntime.InferenceSession, shape: tuple[int, ...]) -> None:
        self._session, self._shape = session, shape
        self._pixels: NDArray[np.uint8] | None = None

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        """Run the batch on the calling thread."""
        feeds: dict[str, Any] = {LATENTS_INPUT: latents_BZ}
        if labels_B is not None:
            feeds[LABELS_INPUT] = labels_B
        try:
            (pixels,) = self._session.run([PIXELS_OUTPUT], feeds)
        except Exception as error:  # its exceptions share no base but this
            raise BackendError(f"onnxruntime failed on a batch of {latents_BZ.shape[0]}: {error}") from error
        if pixels.shape != self._shape or pixels.dtype != np.uint8:
            raise BackendError(
                f"the generator made {pixels.dtype} {list(pixels.shape)} where its bundle promises uint8 "
                f"{list(self._shape)}; export it again"
            )
        self._pixels = pixels

    def collect(self) -> NDArray[np.uint8]:
        """Return the submitted batch's pixels: a new array each time."""
        assert self._pixels is not None, "collect without submit"
        pixels, self._pixels = self._pixels, None
        return pixels

    def close(self) -> None:
        """Forget the batch in flight."""
        self._pixels = None


def _import_runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailable(f"onnxruntime cannot be imported ({error}); {INSTALL}") from error
    onnxruntime.set_default_logger_severity(4)  # errors reach us as exceptions; the log would repeat them
    return onnxruntime


def _open_session(runtime: Any, bundle: Bundle, device: str, batch: int) -> onnxruntime.InferenceSession:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_free_dimension_override_by_name("batch", batch)
    options.log_severity_level = 4
    providers: list[Any] = ["CPUExecutionProvider"]
    if device != "cpu":
        # Without these two, a CUDA provider that cannot load is a session that quietly runs on the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = [("CUDAExecutionProvider", {"device_id": _cuda_ordinal(device), "use_tf32": 0})]
    graph = bundle.load(GENERATOR)
    try:
        session = runtime.InferenceSession(graph, options, providers=providers)
        session.disable_fallback()
    except Exception as error:
        if device != "cpu":
            raise BackendUnavailable(_cuda_reason(device, error)) from error
        raise BackendError(f"onnxruntime refused the generator of bundle {bundle.path}: {error}") from error
    wanted = providers[0] if device == "cpu" else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise BackendUnavailable(_cuda_reason(device, None))
    return session


def _cuda_ordinal(device: str) -> int:
    kind, _, ordinal = device.partition(":")
    if kind != "cuda" or not ordinal.isdecimal():
        raise BackendUnavailable(f"device {device!r}: onnxruntime knows cpu, cuda and cuda:N")
    return int(ordinal)


def _cuda_reason(device: str, error: Exception | None) -> str:
    said = f" ({error})" if error else ""
    return (
        f"device {device!r}: onnxruntime's CUDA provider does not load here{said}; it needs onnxruntime-gpu, an NVIDIA "
        "driver, and the CUDA and cuDNN libraries of its release. Use --device cpu to run on the processor"
    )
