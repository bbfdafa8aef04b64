"""ONNX Runtime: the CPU, and CUDA without its silent fallback.

On a CPU an execution stream computes on the calling thread (one intra-op thread), so streams share one session and
nothing else, and their number cannot change how a matrix product is partitioned.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gen_engine.engine.backends import import_runtime
from gen_engine.engine.backends.contract import Values, refuse_unpromised
from gen_engine.engine.backends.cuda import cuda_ordinal
from gen_engine.engine.backends.onnxruntime_cuda import OnnxRuntimeCudaStream, SessionGpu
from gen_engine.engine.errors import BackendError, BackendUnavailable
from gen_engine.engine.identity.bundle import IMAGES_OUTPUT, LABELS_INPUT, LATENTS_INPUT, Bundle

if TYPE_CHECKING:
    import onnxruntime

    from gen_engine.engine.identity.variants import Graph

_NO_FOLDER = f"{os.devnull}/none"
"""A directory that cannot exist."""

CPU_PRECISIONS = ("fp32", "int8")
"""Its CPU kernels support no others; a graph in bf16 or fp16 would be cast back and forth at every node."""

_REPEATED_VALUES, _MAX_REPEATS = 1 << 22, 32
"""Values that are recomputed to check that they repeat, and how often a batch is run for that at most."""


class OnnxRuntimeBackend:
    """A graph of a bundle in one inference session.

    Args:
        bundle: what to run.
        graph: its graph, in fp32 or int8 on ``cpu``, in any precision on a GPU.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        batch: samples per call, at least 1.

    Raises:
        BackendUnavailable: this device or precision does not work here.
        BackendError: the runtime refused the graph.
    """

    name = "onnxruntime"
    engine = None

    def __init__(self, bundle: Bundle, graph: Graph, *, device: str = "cpu", batch: int) -> None:
        self.batch = batch
        self.device = "cuda:0" if device == "cuda" else device
        self.precision = graph.precision
        provider, options = self._provider(bundle, graph)
        self._bundle = bundle
        runtime = import_runtime(self.name)
        if self.device != "cpu":
            _load_cuda_libraries(runtime)
        self._gpu = None if self.device == "cpu" else SessionGpu(self.device, int(options["device_id"]))
        if self._gpu is not None:
            options = {**options, "user_compute_stream": str(int(self._gpu.stream.handle))}
        runtime.set_default_logger_severity(4)  # errors are raised as exceptions; the log would repeat them
        self.version = str(runtime.__version__)
        try:
            self._session = _open_session(runtime, graph, provider, options, batch)
        except Exception as error:  # its exceptions share no other base class
            if self.device != "cpu":
                raise BackendUnavailable(self._reason(error)) from error
            raise BackendError(f"onnxruntime refused the generator of bundle {bundle.path}: {error}") from error
        if self._session.get_providers()[0] != provider:
            raise BackendUnavailable(self._reason(None))
        if self._gpu is not None:
            self.refuse_unrepeatable()

    def open_stream(self) -> OnnxRuntimeStream | OnnxRuntimeCudaStream:
        """Open an execution stream; all share the session, which is thread-safe."""
        if self._gpu is not None:
            return OnnxRuntimeCudaStream(self._session, self._gpu, self._bundle, self.batch)
        return OnnxRuntimeStream(self._session, self._bundle, self.batch)

    def refuse_unrepeatable(self) -> None:
        """Raise BackendUnavailable if repeated runs of the same batch are not bit-identical.

        Some cuDNN kernels add in no fixed order, and no option of ONNX Runtime excludes them. Rounding to uint8 hides
        most of the differences, so small batches are run often.
        """
        rng = np.random.default_rng(0)
        latents_BZ = rng.standard_normal((self.batch, self._bundle.latent.dim), np.float32)
        classes = self._bundle.labels
        labels_B = None if classes is None else np.arange(self.batch) % len(classes.names)
        values = self.batch * sum(int(np.prod(output.shape)) for output in self._bundle.outputs)
        with contextlib.closing(self.open_stream()) as stream:
            made = []
            for _ in range(min(_MAX_REPEATS, 2 + _REPEATED_VALUES // values)):
                stream.submit(latents_BZ, labels_B)
                made.append(blake3(b"".join(array.tobytes() for array in stream.collect().values())).digest())
        if len(set(made)) > 1:
            raise BackendUnavailable(
                f"device {self.device!r}: at a batch of {self.batch} in {self.precision} onnxruntime makes other "
                "samples of the same latents from run to run, by a kernel of cuDNN that adds in no fixed order; use "
                "another --batch, or 'gen-engine compile --device cuda', which finds a form that does not"
            )

    def _provider(self, bundle: Bundle, graph: Graph) -> tuple[str, Mapping[str, str]]:
        """Return the execution provider's name and options, or refuse what it cannot do."""
        if self.device == "cpu":
            if graph.precision not in CPU_PRECISIONS:
                raise BackendUnavailable(
                    f"precision {graph.precision!r}: onnxruntime computes in {' and '.join(CPU_PRECISIONS)} on a "
                    "processor; use --backend openvino, or --precision fp32"
                )
            return "CPUExecutionProvider", {}
        return "CUDAExecutionProvider", {
            "device_id": str(cuda_ordinal(self.device, self.name)),
            "use_tf32": "0",
            **_convolutions(graph),
        }

    def _reason(self, error: Exception | None) -> str:
        reason = f" ({' '.join(str(error).split())})" if error else ""
        return (
            f"device {self.device!r}: onnxruntime's CUDA provider does not load here{reason}; it needs "
            "onnxruntime-gpu, an NVIDIA driver, and the CUDA and cuDNN libraries of its release. "
            "Use --device cpu to run on the processor"
        )


class OnnxRuntimeStream:
    """Runs each batch when it is submitted."""

    depth = 1

    def __init__(self, session: onnxruntime.InferenceSession, bundle: Bundle, batch: int) -> None:
        self._session, self._outputs, self._batch = session, bundle.outputs, batch
        self._tensors = [output.tensor for output in bundle.outputs]
        # Once: a table has hundreds of outputs, and checking one takes as long as looking up its values.
        self._promised = [(output, np.dtype(output.dtype), (batch, *output.shape)) for output in bundle.outputs]
        self._values: Values | None = None
        self._run_options = import_runtime(OnnxRuntimeBackend.name).RunOptions()

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        """Run the batch on the calling thread."""
        feeds: dict[str, Any] = {LATENTS_INPUT: latents_BZ}
        if labels_B is not None:
            feeds[LABELS_INPUT] = labels_B
        try:
            arrays = self._session.run(self._tensors, feeds, self._run_options)
        except Exception as error:
            raise BackendError(f"onnxruntime failed on a batch of {latents_BZ.shape[0]}: {error}") from error
        for array, (output, dtype, shape) in zip(arrays, self._promised, strict=True):
            if array.dtype != dtype or array.shape != shape:
                refuse_unpromised(array.dtype, array.shape, output, self._batch)
        self._values = {output.name: array for output, array in zip(self._outputs, arrays, strict=True)}

    def collect(self) -> Values:
        """Return the submitted batch's values: new arrays each time."""
        assert self._values is not None, "collect without submit"
        values, self._values = self._values, None
        return values

    def cancel(self) -> None:
        """Make the running batch fail at the next node, including nodes of a loop's body."""
        self._run_options.terminate = True

    def close(self) -> None:
        """Drop the batch in flight."""
        self._values = None


def exported_values(
    graph: Graph, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None
) -> NDArray[np.float32] | None:
    """Return the output of a canonical graph on the CPU before it is converted to samples: float32, channels first.

    None if the graph has no output :data:`~gen_engine.engine.identity.bundle.IMAGES_OUTPUT`.

    Raises:
        BackendError: onnxruntime failed.
    """
    import onnxruntime as runtime

    feeds: dict[str, NDArray[Any]] = {LATENTS_INPUT: latents_BZ}
    if labels_B is not None:
        feeds[LABELS_INPUT] = labels_B
    try:
        session = _open_session(runtime, graph, "CPUExecutionProvider", {}, len(latents_BZ))
        if IMAGES_OUTPUT not in {output.name for output in session.get_outputs()}:
            return None
        values: NDArray[np.float32] = session.run([IMAGES_OUTPUT], feeds)[0]
    except Exception as error:
        raise BackendError(f"onnxruntime failed on a batch of {len(latents_BZ)}: {error}") from error
    return values


def _convolutions(graph: Graph) -> dict[str, str]:
    """Return how the CUDA provider is to choose its convolutions: never by timing, on which no two processes agree.

    For a transposed convolution without tensor cores, the heuristics choose a kernel that adds in no fixed order, on
    every GPU tried; the default kernel is several times slower and deterministic. ``compile`` finds forms without any.
    """
    if graph.precision == "fp32" and _TRANSPOSED in graph.onnx:
        return {"cudnn_conv_algo_search": "DEFAULT"}
    return {"cudnn_conv_algo_search": "HEURISTIC", "prefer_nhwc": "1"}


_TRANSPOSED = b"\x22\x0dConvTranspose"
"""A node's ``op_type`` as protocol buffers encode it: field 4, 13 bytes. Its name, which may be equal, is field 3."""


def _load_cuda_libraries(runtime: Any) -> None:
    """Load the CUDA and cuDNN libraries that pip installed, which no loader finds by itself.

    Without it the provider works only where they are on the loader's path, or after torch was imported. Failures are
    printed on standard output, where samples may go; they are discarded, since the provider then fails to load as well.
    """
    preload = getattr(runtime, "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def _open_session(
    runtime: Any, graph: Graph, provider: str, provider_options: Mapping[str, str], batch: int
) -> onnxruntime.InferenceSession:
    options = _cpu_options(runtime)
    options.add_free_dimension_override_by_name("batch", batch)
    if provider != "CPUExecutionProvider":
        # Without this, a session whose GPU provider cannot load silently runs on the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # The session's own fallback to other providers, announced on standard output, is off from the start.
    return runtime.InferenceSession(
        graph.onnx, options, providers=[(provider, dict(provider_options))], enable_fallback=0
    )


def open_model(runtime: Any, onnx: bytes) -> onnxruntime.InferenceSession:
    """Open any model, of confined bytes, on the processor; raises the runtime's own errors."""
    return runtime.InferenceSession(onnx, _cpu_options(runtime), providers=["CPUExecutionProvider"], enable_fallback=0)


def _cpu_options(runtime: Any) -> Any:
    """Return the options of a session that computes on the calling thread, and reads no file."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Graphs with external data were refused earlier; one that got here would find no file, not even a relative one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    return options
