"""A lane of ONNX Runtime on a GPU: inputs and pixels bound where they are made, and pixels copied behind the work.

All lanes of a session use its one stream, in turn: what draws the latents is enqueued before what reads them, and no
batch can be given scratch memory that another still works in. A run returns once it is enqueued, and each lane copies
its pixels to pinned memory on a stream of its own, while the next batch computes.

Measured on one H100: docs/gpu.md.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import cuda, import_runtime
from gen_engine.engine.backends.contract import refuse_unpromised
from gen_engine.engine.backends.cuda_inputs import DeviceInputs, DeviceLatents, pinned_array
from gen_engine.engine.identity.bundle import LABELS_INPUT, LATENTS_INPUT, PIXELS_OUTPUT, Bundle
from gen_engine.engine.sample.modalities import Pixels

if TYPE_CHECKING:
    import onnxruntime

    from gen_engine.engine.identity.latents import Latents


class SessionGpu:
    """The GPU of a session, and the stream that it computes on.

    Args:
        device: ``cuda:N``.
        ordinal: N.

    Raises:
        BackendUnavailable: the driver, the GPU or cuda-core is not here.
        BackendError: CUDA failed.
    """

    memory = "cuda"
    """Where ONNX Runtime is told that inputs lie."""

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


class OnnxRuntimeCudaLane:
    """Keeps two batches in flight in three slots: one computes while the pixels of the other are copied to the host.

    The array that :meth:`collect` returned last is pinned memory of a slot that the next submit but one uses again.
    """

    depth = 2

    def __init__(self, session: onnxruntime.InferenceSession, gpu: SessionGpu, bundle: Bundle, batch: int) -> None:
        self._session, self._gpu, self._batch = session, gpu, batch
        self._drawn: DeviceLatents | None = None
        made = session.get_outputs()
        shape = next(one.shape for one in made if one.name == PIXELS_OUTPUT)
        refuse_unpromised(bundle.output.dtype, (batch, *shape[1:]), bundle.output, batch)
        self._options = import_runtime("onnxruntime").RunOptions()
        # Else a run ends when its work has: what waits is the one who collects.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        with gpu.turn, gpu.current("onnxruntime cannot prepare a lane"):
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

    def collect(self) -> Pixels:
        """Wait for the oldest batch; the array is its slot's own memory."""
        assert self._in_flight, "collect without submit"
        slot = self._in_flight.popleft()
        self._idle.append(slot)  # behind the one that is idle now, whose array was the one before
        with self._gpu.current("onnxruntime failed while it ran a batch"):
            slot.copied.sync()
        return slot.pixels

    def close(self) -> None:
        """Wait for what is in flight and release the buffers; collected pixels stay while somebody looks at them."""
        slots = [*self._idle, *self._in_flight]
        if not slots:
            return
        self._idle.clear()
        self._in_flight.clear()
        with self._gpu.turn, self._gpu.current("onnxruntime cannot close a lane"):
            for stream in (self._gpu.stream, self._copies):
                stream.sync()
            for slot in slots:
                slot.close()
            if self._drawn is not None:
                self._drawn.close()

    def _run(self, first: int, labels_B: NDArray[np.int64] | None, drawn: DeviceLatents | None) -> None:
        assert len(self._in_flight) < self.depth, "more batches in flight than the lane has room for"
        slot, stream = self._idle[0], self._gpu.stream
        with self._gpu.turn, self._gpu.current(f"onnxruntime failed on a batch of {self._batch}"):
            slot.inputs.put(first, labels_B)
            slot.inputs.enqueue(stream, drawn)
            self._session.run_with_iobinding(slot.binding, self._options)
            stream.record(slot.computed)
            self._copies.wait(slot.computed)
            slot.made.copy_to(slot.host, stream=self._copies)
            self._copies.record(slot.copied)
        self._in_flight.append(self._idle.popleft())


class _Slot:
    """One batch at a time: its inputs, its pixels on the GPU and in pinned memory, and what binds a session to them."""

    def __init__(self, session: onnxruntime.InferenceSession, gpu: SessionGpu, bundle: Bundle, batch: int) -> None:
        shape, dtype = (batch, *bundle.output.shape), np.dtype(bundle.output.dtype)
        size = dtype.itemsize * int(np.prod(shape))
        device = gpu.core.Device(gpu.ordinal)
        self.inputs = DeviceInputs(gpu.core, gpu.ordinal, gpu.stream, bundle, batch)
        self.made = gpu.core.DeviceMemoryResource(gpu.ordinal).allocate(size, stream=gpu.stream)
        self.host = gpu.core.LegacyPinnedMemoryResource().allocate(size)
        self.pixels: Pixels = pinned_array(self.host, shape, dtype)
        blocking = gpu.core.EventOptions(blocking_sync=True)  # a thread that waits leaves its processor to encoders
        self.computed, self.copied = device.create_event(), device.create_event(blocking)
        self.binding = session.io_binding()
        latents = self.inputs.latents_BZ.shape, self.inputs.latents_address
        self.binding.bind_input(LATENTS_INPUT, gpu.memory, gpu.ordinal, np.float32, *latents)
        if self.inputs.labels_B is not None:
            labels = self.inputs.labels_B.shape, self.inputs.labels_address
            self.binding.bind_input(LABELS_INPUT, gpu.memory, gpu.ordinal, np.int64, *labels)
        self.binding.bind_output(PIXELS_OUTPUT, gpu.memory, gpu.ordinal, dtype.type, shape, int(self.made.handle))

    def close(self) -> None:
        """Release the GPU's memory; the pixels' own goes with the last view of it."""
        self.inputs.close()
        self.made.close()
