"""ONNX Runtime on a GPU: inputs and outputs bound in device memory, outputs copied while the next batch computes.

All execution streams of a session use its one CUDA stream, in turn: what draws the latents is enqueued before what
reads them, and no batch is given scratch memory that another still uses. A run returns once it is enqueued, and each
execution stream copies its samples to pinned memory on its own CUDA stream, while the next batch computes.

Measured on one H100: docs/gpu.md.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import cuda, import_runtime
from gen_engine.engine.backends.contract import Values, refuse_unpromised
from gen_engine.engine.backends.cuda_inputs import DeviceInputs, DeviceLatents, pinned_array
from gen_engine.engine.identity.bundle import LABELS_INPUT, LATENTS_INPUT, Bundle, OutputSpec

if TYPE_CHECKING:
    import onnxruntime

    from gen_engine.engine.identity.latents import Latents


class SessionGpu:
    """The GPU of a session, and the CUDA stream that it computes on.

    Args:
        device: ``cuda:N``.
        ordinal: N.

    Raises:
        BackendUnavailable: the driver, the GPU or cuda-core is not here.
        BackendError: CUDA failed.
    """

    memory = "cuda"
    """The device on which inputs are bound, as ONNX Runtime names it."""

    def __init__(self, device: str, ordinal: int) -> None:
        self.device, self.ordinal = device, ordinal
        self.architecture = cuda.gpu(ordinal).architecture
        self.core = cuda.cuda_core()
        self.turn = threading.Lock()
        with self.current("CUDA failed to open a stream"):
            self.stream = self.core.Device(ordinal).create_stream()

    @contextlib.contextmanager
    def current(self, what: str) -> Iterator[None]:
        """Make the GPU the calling thread's, and turn what a call raises into a BackendError."""
        with cuda.runtime_errors(f"{what} on {self.device}"):
            self.core.Device(self.ordinal).set_current()
            yield


class OnnxRuntimeCudaStream:
    """Keeps two batches in flight in three slots: one computes while the samples of the other are copied to the host.

    The arrays that :meth:`collect` returned last are pinned memory of a slot that the second submit after it reuses.
    """

    depth = 2

    def __init__(self, session: onnxruntime.InferenceSession, gpu: SessionGpu, bundle: Bundle, batch: int) -> None:
        self._session, self._gpu, self._batch = session, gpu, batch
        self._drawn: DeviceLatents | None = None
        shapes = {one.name: one.shape for one in session.get_outputs()}
        for output in bundle.outputs:
            refuse_unpromised(output.dtype, (batch, *shapes[output.tensor][1:]), output, batch)
        self._options = import_runtime("onnxruntime").RunOptions()
        # Otherwise a run would return only when its work is done; here ``collect`` is what waits.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        with gpu.turn, gpu.current("onnxruntime cannot prepare an execution stream"):
            self._copies = gpu.core.Device(gpu.ordinal).create_stream()
            self._idle = deque(_Slot(session, gpu, bundle, batch) for _ in range(self.depth + 1))
            gpu.stream.sync()
        self._in_flight: deque[_Slot] = deque()

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        """Start the batch. The arrays are copied to pinned memory at once."""
        self._idle[0].inputs.latents_BZ[:] = latents_BZ
        self._run(0, labels_B, None)

    def submit_samples(self, first: int, latents: Latents, labels_B: NDArray[np.int64] | None) -> None:
        """Start the batch of samples ``first`` and after; their latents are drawn on the GPU."""
        gpu = self._gpu
        if self._drawn is None or self._drawn.latents is not latents:
            with gpu.turn, gpu.current("the latents' kernel cannot be prepared"):
                gpu.stream.sync()
                if self._drawn is not None:
                    self._drawn.close()
                self._drawn = DeviceLatents(gpu.core, gpu.ordinal, gpu.architecture, gpu.stream, latents)
        self._run(first, labels_B, self._drawn)

    def collect(self) -> Values:
        """Wait for the oldest batch; the arrays are its slot's own memory."""
        assert self._in_flight, "collect without submit"
        slot = self._in_flight.popleft()
        self._idle.append(slot)  # after the idle one, whose array was returned before this one
        with self._gpu.current("onnxruntime failed while it ran a batch"):
            slot.copied.sync()
        return slot.values

    def close(self) -> None:
        """Wait for what is in flight and release the buffers; collected values stay while an array refers to them."""
        slots = [*self._idle, *self._in_flight]
        if not slots:
            return
        self._idle.clear()
        self._in_flight.clear()
        with self._gpu.turn, self._gpu.current("onnxruntime cannot close an execution stream"):
            for stream in (self._gpu.stream, self._copies):
                stream.sync()
            for slot in slots:
                slot.close()
            if self._drawn is not None:
                self._drawn.close()

    def _run(self, first: int, labels_B: NDArray[np.int64] | None, drawn: DeviceLatents | None) -> None:
        assert len(self._in_flight) < self.depth, "more batches in flight than the stream's depth"
        slot, stream = self._idle[0], self._gpu.stream
        with self._gpu.turn, self._gpu.current(f"onnxruntime failed on a batch of {self._batch}"):
            slot.inputs.put(first, labels_B)
            slot.inputs.enqueue(stream, drawn)
            self._session.run_with_iobinding(slot.binding, self._options)
            stream.record(slot.computed)
            self._copies.wait(slot.computed)
            for output in slot.outputs:
                output.device.copy_to(output.host, stream=self._copies)
            self._copies.record(slot.copied)
        self._in_flight.append(self._idle.popleft())


class _Output(NamedTuple):
    """The device memory of one field's batch, and the pinned memory that it is copied to."""

    spec: OutputSpec
    device: Any
    host: Any
    array: NDArray[Any]
    """The host's memory."""

    @classmethod
    def of(cls, gpu: SessionGpu, spec: OutputSpec, batch: int) -> _Output:
        """Allocate the memory."""
        shape, dtype = (batch, *spec.shape), np.dtype(spec.dtype)
        size = dtype.itemsize * int(np.prod(shape))
        device = gpu.core.DeviceMemoryResource(gpu.ordinal).allocate(size, stream=gpu.stream)
        host = gpu.core.LegacyPinnedMemoryResource().allocate(size)
        return cls(spec, device, host, pinned_array(host, shape, dtype))


class _Slot:
    """One batch at a time: its inputs, its outputs on the GPU and in pinned memory, and a binding to all of them."""

    def __init__(self, session: onnxruntime.InferenceSession, gpu: SessionGpu, bundle: Bundle, batch: int) -> None:
        device = gpu.core.Device(gpu.ordinal)
        self.inputs = DeviceInputs(gpu.core, gpu.ordinal, gpu.stream, bundle, batch)
        self.outputs = [_Output.of(gpu, output, batch) for output in bundle.outputs]
        self.values: Values = {output.spec.name: output.array for output in self.outputs}
        blocking = gpu.core.EventOptions(blocking_sync=True)  # a waiting thread yields its CPU to encoders
        self.computed, self.copied = device.create_event(), device.create_event(blocking)
        self.binding = session.io_binding()
        latents = self.inputs.latents_BZ.shape, self.inputs.latents_address
        self.binding.bind_input(LATENTS_INPUT, gpu.memory, gpu.ordinal, np.float32, *latents)
        if self.inputs.labels_B is not None:
            labels = self.inputs.labels_B.shape, self.inputs.labels_address
            self.binding.bind_input(LABELS_INPUT, gpu.memory, gpu.ordinal, np.int64, *labels)
        for output in self.outputs:
            shape, dtype = output.array.shape, output.array.dtype.type
            address = int(output.device.handle)
            self.binding.bind_output(output.spec.tensor, gpu.memory, gpu.ordinal, dtype, shape, address)

    def close(self) -> None:
        """Release the device memory; the pinned memory is freed with its last view."""
        self.inputs.close()
        for output in self.outputs:
            output.device.close()
