"""TensorRT and TensorRT-RTX: an engine on a GPU, latents drawn there, samples copied while the next batch computes.

An execution stream has four slots. Up to three are in flight, and the fourth holds the values that were collected last.
A slot is an execution context with its buffers, and a CUDA graph of a whole batch: copy its parameters to the GPU, draw
its latents, run the engine. The copy to pinned memory waits for that on a second CUDA stream, so that the next batch
computes meanwhile.

Written against the bindings of TensorRT 10.13, 11.4 and RTX 1.7 and those of cuda-core, and run only with stand-ins for
both: unmeasured on a GPU.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import cuda, import_runtime
from gen_engine.engine.backends.contract import Values, refuse_unpromised
from gen_engine.engine.backends.cuda_inputs import DeviceInputs, DeviceLatents, pinned_array
from gen_engine.engine.backends.tensorrt_engine import find_engine
from gen_engine.engine.backends.tensorrt_log import logger_of, name_of, with_log
from gen_engine.engine.errors import BackendError, BackendUnavailable
from gen_engine.engine.identity.bundle import LABELS_INPUT, LATENTS_INPUT, Bundle, OutputSpec

if TYPE_CHECKING:
    from gen_engine.engine.identity.latents import Latents
    from gen_engine.engine.identity.variants import Graph


class TensorRtBackend:
    """An engine of a variant's graph, from the bundle or built here. Unmeasured: it was not run on a GPU.

    Args:
        bundle: what to run.
        graph: a graph that ``gen-engine compile --target tensorrt`` made.
        device: ``cuda`` or ``cuda:N``.
        batch: samples per call, at least 1.
        build: whether an engine may be built here if the bundle and the cache have none for this GPU and version.
        on_message: called with the reason when one is built.

    Raises:
        BackendUnavailable: a library, the driver, the GPU or an engine for it is not here; says which, and what to do.
        EngineBuildError: TensorRT built no engine.
        BackendError: the engine is not what its bundle promises.
    """

    name = "tensorrt"

    def __init__(
        self,
        bundle: Bundle,
        graph: Graph,
        *,
        device: str = "cuda",
        batch: int,
        build: bool = True,
        on_message: Callable[[str], None] = lambda _: None,
    ) -> None:
        ordinal = cuda.cuda_ordinal("cuda:0" if device == "cuda" else device, self.name, others="")
        self.device, self.batch, self.precision = f"cuda:{ordinal}", batch, graph.precision
        trt, gpu, core = import_runtime(self.name), cuda.gpu(ordinal), cuda.cuda_core()
        self.version = str(trt.__version__)
        built = find_engine(self.name, bundle, graph, batch=batch, trt=trt, gpu=gpu, build=build, on_message=on_message)
        self.engine = built.record.plan_sha256
        log = logger_of(trt)
        log.take()
        with cuda.runtime_errors(f"{self.name} cannot open the engine on {self.device}"):
            core.Device(ordinal).set_current()
            self._runtime = trt.Runtime(log.sink)  # an engine may outlive neither it nor the logger
            opened = self._runtime.deserialize_cuda_engine(built.plan)
        if opened is None:
            raise BackendError(with_log(f"{name_of(trt)} did not open its engine on {gpu.name}", log))
        _refuse_other_tensors(trt, opened, bundle)
        self._opened = _Opened(trt, core, opened, bundle, ordinal, batch, gpu.architecture)

    def open_stream(self) -> TensorRtStream:
        """Open an execution stream with its own contexts, buffers and CUDA streams; all share the engine."""
        return TensorRtStream(self._opened)


class TensorRtRtxBackend(TensorRtBackend):
    """The same with TensorRT-RTX, for consumer GPUs. Unmeasured: it was not run on a GPU."""

    name = "tensorrt-rtx"


class _Opened(NamedTuple):
    """What the execution streams of a backend share."""

    trt: Any
    core: Any
    engine: Any
    bundle: Bundle
    ordinal: int
    batch: int
    architecture: str


class TensorRtStream:
    """Keeps three batches in flight in four slots, so that collected values need no copy.

    The arrays that :meth:`collect` returned last are pinned memory of a slot that the second submit after it reuses.
    """

    depth = 3

    def __init__(self, opened: _Opened) -> None:
        self._opened, self._thread = opened, -1
        self._drawn: DeviceLatents | None = None
        with self._errors("cannot prepare an execution stream"):
            device = opened.core.Device(opened.ordinal)
            self._compute, self._copies = device.create_stream(), device.create_stream()
            self._idle = deque(_Slot(opened, device, self._compute) for _ in range(self.depth + 1))
            # Slots compute one after the other, on one CUDA stream, so they share scratch memory.
            self._scratch = _memory(opened, max(slot.scratch_bytes for slot in self._idle), self._compute)
            for slot in self._idle:
                slot.work_in(self._scratch)
        self._in_flight: deque[_Slot] = deque()

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        """Start the batch. The arrays are copied to pinned memory at once."""
        slot = self._next_slot()
        slot.inputs.put(0, labels_B)
        slot.inputs.latents_BZ[:] = latents_BZ
        self._start(slot, None)

    def submit_samples(self, first: int, latents: Latents, labels_B: NDArray[np.int64] | None) -> None:
        """Start the batch of samples ``first`` and after; their latents are drawn on the GPU."""
        slot = self._next_slot()
        slot.inputs.put(first, labels_B)
        if self._drawn is None or self._drawn.latents is not latents:
            with self._errors("cannot prepare the latents' kernel"):
                self._draw_by(latents)
        self._start(slot, self._drawn)

    def collect(self) -> Values:
        """Wait for the oldest batch; the arrays are its slot's own memory."""
        assert self._in_flight, "collect without submit"
        slot = self._in_flight.popleft()
        self._idle.append(slot)  # after the idle one, whose array was returned before this one
        with self._errors("failed while it ran a batch"):
            slot.copied.sync()
        return slot.values

    def close(self) -> None:
        """Wait for what is in flight and release the slots."""
        if not self._idle and not self._in_flight:
            return
        slots = [*self._idle, *self._in_flight]
        self._idle.clear()
        self._in_flight.clear()
        with contextlib.suppress(BackendError), self._errors("failed while it was closed"):
            for stream in (self._compute, self._copies):
                stream.sync()
            for slot in slots:
                slot.close()
            self._scratch.close()
            if self._drawn is not None:
                self._drawn.close()

    def _next_slot(self) -> _Slot:
        assert len(self._in_flight) < self.depth, "more batches in flight than the stream's depth"
        return self._idle[0]

    def _start(self, slot: _Slot, drawn: DeviceLatents | None) -> None:
        with self._errors(f"failed on a batch of {self._opened.batch}"):
            graph = slot.graphs.get(drawn is not None)
            if graph is None:
                graph = slot.graphs[drawn is not None] = slot.capture(self._compute, drawn)
            graph.launch(self._compute)
            self._compute.record(slot.computed)
            self._copies.wait(slot.computed)
            for output in slot.outputs:
                output.device.copy_to(output.host, stream=self._copies)
            self._copies.record(slot.copied)
        self._in_flight.append(self._idle.popleft())

    def _draw_by(self, latents: Latents) -> None:
        """Put the table of these latents on the GPU; graphs that draw others are dropped."""
        self._compute.sync()
        for slot in (*self._idle, *self._in_flight):
            slot.graphs.pop(True, None)
        if self._drawn is not None:
            self._drawn.close()
        opened = self._opened
        self._drawn = DeviceLatents(opened.core, opened.ordinal, opened.architecture, self._compute, latents)

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Make the GPU the calling thread's, and turn what a call raises into a BackendError."""
        trt = self._opened.trt
        with cuda.runtime_errors(f"{name_of(trt)} {what} on cuda:{self._opened.ordinal}"):
            if self._thread != threading.get_ident():
                self._opened.core.Device(self._opened.ordinal).set_current()
                self._thread = threading.get_ident()
            yield


class _Output(NamedTuple):
    """The device memory of one field's batch, and the pinned memory that it is copied to."""

    spec: OutputSpec
    device: Any
    host: Any
    array: NDArray[Any]
    """The host's memory."""

    @classmethod
    def of(cls, opened: _Opened, spec: OutputSpec, stream: Any) -> _Output:
        """Allocate the memory."""
        shape, dtype = (opened.batch, *spec.shape), np.dtype(spec.dtype)
        size = dtype.itemsize * int(np.prod(shape))
        host = opened.core.LegacyPinnedMemoryResource().allocate(size)
        return cls(spec, _memory(opened, size, stream), host, pinned_array(host, shape, dtype))


class _Slot:
    """One batch at a time: a context, and buffers at the addresses that its graphs captured."""

    def __init__(self, opened: _Opened, device: Any, stream: Any) -> None:
        self._opened = opened
        self.inputs = DeviceInputs(opened.core, opened.ordinal, stream, opened.bundle, opened.batch)
        self.outputs = [_Output.of(opened, output, stream) for output in opened.bundle.outputs]
        self.values: Values = {output.spec.name: output.array for output in self.outputs}
        blocking = opened.core.EventOptions(blocking_sync=True)  # a waiting thread yields its CPU to encoders
        self.computed, self.copied = device.create_event(), device.create_event(blocking)
        self.graphs: dict[bool, Any] = {}
        """By whether the latents are drawn on the GPU."""
        self._context = self._make_context()
        self.scratch_bytes = max(int(self._context.update_device_memory_size_for_shapes()), 1)
        """What the engine needs to run this batch; its profile may allow much larger ones."""

    def work_in(self, scratch: Any) -> None:
        """Give the context memory of at least :attr:`scratch_bytes`."""
        self._context.set_device_memory(int(scratch.handle), scratch.size)

    def capture(self, stream: Any, drawn: DeviceLatents | None) -> Any:
        """Return a CUDA graph of a batch, after the engine has run once: what it does the first time it does only once.

        ``drawn`` draws the latents; None if they come from the host.
        """
        self._enqueue(stream, drawn)
        stream.sync()
        builder = stream.create_graph_builder()
        try:
            builder.begin_building()
            try:
                self._enqueue(builder, drawn)
            finally:
                builder.end_building()
            return builder.complete()
        finally:
            builder.close()

    def close(self) -> None:
        """Release graphs, the context and the buffers."""
        for graph in self.graphs.values():
            graph.close()
        self.graphs.clear()
        self._context = None
        self.inputs.close()
        for output in self.outputs:
            output.device.close()
        # Arrays collected last may still be in use: their pinned memory is freed with the last view of it.

    def _enqueue(self, stream: Any, drawn: DeviceLatents | None) -> None:
        self.inputs.enqueue(stream, drawn)
        handle = getattr(stream, "stream", stream).handle  # a graph builder captures its stream
        if not self._context.execute_async_v3(int(handle)):
            raise BackendError(self._said("did not start the engine"))

    def _make_context(self) -> Any:
        managed = self._opened.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._opened.engine.create_execution_context(managed)
        if context is None:
            raise BackendError(
                self._said(f"made no execution context for a batch of {self._opened.batch}")
                + ". If memory ran out, use fewer --workers, or a smaller --batch, which makes another dataset"
            )
        inputs = {LATENTS_INPUT: (self.inputs.latents_BZ.shape, self.inputs.latents_address)}
        if self.inputs.labels_B is not None:
            inputs[LABELS_INPUT] = (self.inputs.labels_B.shape, self.inputs.labels_address)
        for name, (shape, _) in inputs.items():
            if not context.set_input_shape(name, shape):
                raise BackendError(self._said(f"refused the shape {list(shape)} of {name}"))
        addresses = {name: address for name, (_, address) in inputs.items()}
        addresses |= {output.spec.tensor: int(output.device.handle) for output in self.outputs}
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise BackendError(self._said(f"refused the address of {name}"))
        for output in self.outputs:
            made = tuple(context.get_tensor_shape(output.spec.tensor))
            refuse_unpromised(output.array.dtype, made, output.spec, self._opened.batch)
        return context

    def _said(self, what: str) -> str:
        trt = self._opened.trt
        return with_log(f"{name_of(trt)} {what}", logger_of(trt))


def _memory(opened: _Opened, size: int, stream: Any) -> Any:
    return opened.core.DeviceMemoryResource(opened.ordinal).allocate(size, stream=stream)


_TYPES = {"float32": "FLOAT", "uint8": "UINT8", "bool": "BOOL", "int8": "INT8", "int32": "INT32", "int64": "INT64"}
"""dtype of an output → its name in the runtime."""


def _refuse_other_tensors(trt: Any, engine: Any, bundle: Bundle) -> None:
    """Raise BackendError unless the engine has the inputs and the output of a bundle's generator, of their types."""
    wanted = {LATENTS_INPUT: (trt.TensorIOMode.INPUT, trt.DataType.FLOAT)}
    if bundle.labels is not None:
        wanted[LABELS_INPUT] = (trt.TensorIOMode.INPUT, trt.DataType.INT64)
    for output in bundle.outputs:
        if output.dtype not in _TYPES:
            raise BackendUnavailable(
                f"output {output.name} of bundle {bundle.name} is {output.dtype}, which TensorRT does not make; use "
                "--backend onnxruntime"
            )
        wanted[output.tensor] = (trt.TensorIOMode.OUTPUT, getattr(trt.DataType, _TYPES[output.dtype]))
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    actual = {name: (engine.get_tensor_mode(name), engine.get_tensor_dtype(name)) for name in names}
    if actual != wanted:
        shown = ", ".join(f"{name} {mode} {kind}" for name, (mode, kind) in sorted(actual.items()))
        raise BackendError(
            f"the engine has {shown}, and a generator of bundle {bundle.path} has {', '.join(sorted(wanted))}; "
            "compile the bundle again"
        )
