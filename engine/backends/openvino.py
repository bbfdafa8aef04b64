"""OpenVINO on the CPU: a static batch, and asynchronous requests that run while the worker draws latents and encodes.

Every request computes on one thread, however many there are, so that neither the number of execution streams nor that
of processors can change how a matrix product is partitioned. The graph determines the precision: nothing is lowered
implicitly, and the precisions that the runtime chose are checked before the first batch.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import import_runtime
from gen_engine.engine.backends.contract import Values, refuse_unpromised
from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.base.strict_json import show
from gen_engine.engine.errors import BackendError, BackendUnavailable
from gen_engine.engine.identity.bundle import LABELS_INPUT, LATENTS_INPUT, Bundle, OutputSpec

if TYPE_CHECKING:
    from gen_engine.engine.identity.variants import Graph

_MATRIX_LAYERS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
"""The layers that take a generator's time, as the runtime's CPU plugin names them."""

_RUNTIME_TYPES = {"bf16": ("bf16",), "fp16": ("f16",), "int8": ("i8", "u8")}
"""Precision → its name in the runtime."""

_IN_FLIGHT_BYTES, _MIN_DEPTH, _MAX_DEPTH = 4 << 20, 4, 12
"""In flight per execution stream, in samples and in batches: several short batches run while the worker encodes."""

_IN_PLACE: tuple[Literal["C"], Literal["W"]] = ("C", "W")
"""What the runtime requires of an array to read it in place: contiguous, and writeable although nothing writes."""


class OpenVinoBackend:
    """A graph of a bundle, compiled for the processor at one batch.

    Args:
        bundle: what to run.
        graph: its graph, in any precision that this processor has.
        device: ``cpu``.
        batch: samples per call, at least 1.
        streams: how many requests run at once; None for one per processor. Does not affect values.

    Raises:
        BackendUnavailable: another device; the runtime computes a matrix product in another precision than the
            graph's, which names the layers; or it would compute a column of 64 bits in 32.
        BackendError: the runtime refused the graph.
    """

    name = "openvino"
    device = "cpu"
    engine = None

    def __init__(
        self, bundle: Bundle, graph: Graph, *, device: str = "cpu", batch: int, streams: int | None = None
    ) -> None:
        if device != "cpu":
            raise BackendUnavailable(
                f"device {device!r}: openvino runs on the CPU here; use --device cpu, or --backend onnxruntime"
            )
        _refuse_wide(bundle)
        self.batch, self.precision = batch, graph.precision
        openvino = import_runtime(self.name)
        self.version = str(openvino.__version__).partition("-")[0]
        try:
            self._compiled = _compile(bundle, graph, batch, streams or usable_cpus())
            layers = list(_matrix_layers(self._compiled))
            ports = [self._compiled.output(output.tensor) for output in bundle.outputs]
            made = [(port.get_element_type().to_dtype(), tuple(port.get_shape())) for port in ports]
        except RuntimeError as error:
            raise BackendError(f"openvino refused the generator of bundle {bundle.path}: {error}") from error
        self._tensor = openvino.Tensor
        self._labelled = bundle.labels is not None
        self._outputs = bundle.outputs
        for output, (dtype, shape) in zip(bundle.outputs, made, strict=True):
            refuse_unpromised(dtype, shape, output, batch)
        _refuse_fallback(graph.precision, layers)
        batch_bytes = sum(dtype.itemsize * math.prod(shape) for dtype, shape in made)
        self._depth = min(max(_MIN_DEPTH, _IN_FLIGHT_BYTES // batch_bytes), _MAX_DEPTH)
        self._kernels = dict(Counter(layer.kernel for layer in layers))

    @property
    def kernels(self) -> Mapping[str, int]:
        """The kernels that compute the matrix products, by the runtime's names, and how many layers each has."""
        return self._kernels

    def open_stream(self) -> OpenVinoStream:
        """Open an execution stream with its own requests; the compiled graph is shared."""
        return OpenVinoStream(self._compiled, self._tensor, self._outputs, labelled=self._labelled, depth=self._depth)


class OpenVinoStream:
    """Keeps some batches in flight, with one extra request so that collected values need no copy.

    While the others run, one request's outputs are the arrays that :meth:`collect` returned last; they are overwritten
    by the submit after the next :meth:`collect`.
    """

    def __init__(
        self, compiled: Any, tensor: Any, outputs: tuple[OutputSpec, ...], *, labelled: bool, depth: int
    ) -> None:
        self._tensor, self._labelled = tensor, labelled
        self._outputs = [(output.name, output.tensor) for output in outputs]
        self.depth = depth
        self._idle: deque[Any] = deque(compiled.create_infer_request() for _ in range(self.depth + 1))
        self._in_flight: deque[tuple[Any, tuple[NDArray[Any], ...]]] = deque()

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        """Start the batch on the runtime's threads. It reads the arrays in place."""
        assert len(self._in_flight) < self.depth, "more batches in flight than the stream's depth"
        assert (labels_B is not None) is self._labelled, "labels go with a generator that has classes"
        request = self._idle.popleft()
        inputs: dict[str, NDArray[Any]] = {LATENTS_INPUT: np.require(latents_BZ, np.float32, _IN_PLACE)}
        if labels_B is not None:
            inputs[LABELS_INPUT] = np.require(labels_B, np.int64, _IN_PLACE)
        try:
            for name, array in inputs.items():
                request.set_tensor(name, self._tensor(array, shared_memory=True))
            request.start_async()
        except Exception as error:
            self._idle.appendleft(request)
            raise BackendError(f"openvino failed on a batch of {latents_BZ.shape[0]}: {error}") from error
        self._in_flight.append((request, tuple(inputs.values())))  # alive until they have been read

    def collect(self) -> Values:
        """Wait for the oldest batch; the arrays are its request's own outputs."""
        assert self._in_flight, "collect without submit"
        request, _ = self._in_flight.popleft()
        self._idle.append(request)  # after the idle one, whose array was returned before this one
        try:
            request.wait()
        except RuntimeError as error:
            raise BackendError(f"openvino failed while it ran a batch: {error}") from error
        return {name: request.get_tensor(tensor).data for name, tensor in self._outputs}

    def cancel(self) -> None:
        """Cancel what is in flight. The runtime checks for it between layers, but not inside a loop."""
        for request in (*(request for request, _ in self._in_flight), *self._idle):
            request.cancel()  # the one that is being waited for is among the idle ones

    def close(self) -> None:
        """Cancel what is in flight, wait until the runtime has released its arrays, and drop the requests."""
        for request, _ in self._in_flight:
            request.cancel()
        for request, _ in self._in_flight:
            try:
                request.wait()
            except RuntimeError:
                continue  # that it was cancelled
        self._in_flight.clear()
        self._idle.clear()


class _Layer(NamedTuple):
    name: str
    kernel: str
    precision: str


def shared_core() -> Any:
    """Return the process's one ``openvino.Core``, which lives until the process ends.

    Each Core installs a stack for signal handlers on its thread, and restores the previous one when it is destroyed. Of
    two Cores, the second restores the stack that the first has already freed, and the next Ctrl-C is a segmentation
    fault (seen with 2026.4.1).

    Raises:
        BackendUnavailable: openvino cannot be imported.
    """
    openvino = import_runtime("openvino")
    with _ONE_CORE:
        if not _CORES:
            _CORES.append(openvino.Core())
        return _CORES[0]


_ONE_CORE = threading.Lock()
_CORES: list[Any] = []


def _compile(bundle: Bundle, graph: Graph, batch: int, streams: int) -> Any:
    core = shared_core()
    model = core.read_model(model=graph.onnx)
    shapes = {LATENTS_INPUT: [batch, bundle.latent.dim]}
    if bundle.labels is not None:
        shapes[LABELS_INPUT] = [batch]
    wanted = {model.output(output.tensor).get_node().get_friendly_name() for output in bundle.outputs}
    for result in model.get_results():
        if result.get_friendly_name() not in wanted:
            model.remove_result(result)  # "images" is for parity: making it costs a copy per batch
    model.reshape(shapes)
    return core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",  # fp32 graphs stay fp32; one in bf16 declares its own types
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            "ENABLE_CPU_PINNING": False,  # streams, encoders and other jobs share these processors
        },
    )


def _matrix_layers(compiled: Any) -> Iterator[_Layer]:
    """Yield the kernel and precision that the runtime chose for each matrix product and convolution."""
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in _MATRIX_LAYERS:
            yield _Layer(
                node.get_friendly_name(),
                info["primitiveType"].astype(str),
                info["runtimePrecision"].astype(str),
            )


def _refuse_wide(bundle: Bundle) -> None:
    """Raise BackendUnavailable if a column of a table has 64 bits.

    On processors the runtime computes 64-bit integers in 32 bits, and clamps those that do not fit; 64-bit floats
    become 32-bit ones. Both are silent: a missing value would be a number (seen with 2026.4.1). Ids of categories fit.
    """
    for output in bundle.outputs:
        if output.field.is_column and output.dtype in _WIDE and output.kind != "category":
            raise BackendUnavailable(
                f"column {show(output.field.column)} is {output.dtype}, and openvino computes it in 32 bits, which its "
                "values may not fit; use --backend onnxruntime"
            )


_WIDE = ("int64", "uint64", "float64")


def _refuse_fallback(precision: str, layers: list[_Layer]) -> None:
    """Raise BackendUnavailable if a low-precision graph is not computed in its precision."""
    if precision == "fp32":
        return
    wanted = _RUNTIME_TYPES.get(precision, ())
    others = [layer for layer in layers if layer.precision not in wanted]
    # A quantised graph keeps some layers unquantised on purpose; one in bf16 or fp16 is entirely so.
    if not others or (precision == "int8" and len(others) < len(layers)):
        return
    named = ", ".join(f"{layer.name} ({layer.kernel}, {layer.precision})" for layer in others[:3])
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    raise BackendUnavailable(
        f"precision {precision!r}: openvino does not compute all of this graph in it on this processor: {named}{more}. "
        "Use --precision fp32, or compile the bundle here"
    )
