"""A lane of ONNX Runtime on a GPU: inputs bound where they are made, pixels bound to pinned memory.

All lanes of a session use its one stream, in turn: what draws the latents is enqueued before what reads them, and no
batch can be given scratch memory that another still works in. While one lane's batch runs, the others encode.

Run only with a stand-in for cuda-core, and a session on the processor: unmeasured on a GPU.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import cuda
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
    """Runs each batch when it is submitted. Pixels that were collected stay while the next batch is submitted."""

    depth = 1

    def __init__(self, session: onnxruntime.InferenceSession, gpu: SessionGpu, bundle: Bundle, batch: int) -> None:
        self._session, self._gpu, self._bundle, self._batch = session, gpu, bundle, batch
        self._drawn: DeviceLatents | None = None
        self._made: Pixels | None = None
        made = session.get_outputs()
        shape = next(one.shape for one in made if one.name == PIXELS_OUTPUT)
        refuse_unpromised(bundle.output.dtype, (batch, *shape[1:]), bundle.output, batch)
        with gpu.turn, gpu.current("onnxruntime cannot prepare a lane"):
            self._inputs = DeviceInputs(gpu.core, gpu.ordinal, gpu.stream, bundle, batch)
            gpu.stream.sync()
            self._outputs = deque(self._bound() for _ in range(self.depth + 1))

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        """Run the batch on the calling thread."""
        self._inputs.latents_BZ[:] = latents_BZ
        self._run(0, labels_B, None)

    def submit_samples(self, first: int, latents: Latents, labels_B: NDArray[np.int64] | None) -> None:
        """Run the batch of samples ``first`` and after; their latents are drawn on the GPU."""
        gpu = self._gpu
        if self._drawn is None or self._drawn.latents is not latents:
            with gpu.turn, gpu.current("the latents' kernel cannot be prepared"):
                if self._drawn is not None:
                    self._drawn.close()
                self._drawn = DeviceLatents(gpu.core, gpu.ordinal, gpu.architecture, gpu.stream, latents)
        self._run(first, labels_B, self._drawn)

    def collect(self) -> Pixels:
        """Return the submitted batch's pixels: pinned memory that the next batch but one is written to."""
        assert self._made is not None, "collect without submit"
        pixels, self._made = self._made, None
        return pixels

    def close(self) -> None:
        """Release the buffers; collected pixels stay for as long as somebody looks at them."""
        if not self._outputs:
            return
        self._made = None
        self._outputs.clear()
        with self._gpu.turn, self._gpu.current("onnxruntime cannot close a lane"):
            self._gpu.stream.sync()
            self._inputs.close()
            if self._drawn is not None:
                self._drawn.close()

    def _bound(self) -> tuple[Any, Pixels]:
        """Return a binding of the inputs and of pinned memory of its own, and that memory."""
        gpu, inputs, binding = self._gpu, self._inputs, self._session.io_binding()
        shape, dtype = (self._batch, *self._bundle.output.shape), np.dtype(self._bundle.output.dtype)
        size = dtype.itemsize * int(np.prod(shape))
        pixels = pinned_array(gpu.core.LegacyPinnedMemoryResource().allocate(size), shape, dtype)
        latents = inputs.latents_BZ.shape, inputs.latents_address
        binding.bind_input(LATENTS_INPUT, gpu.memory, gpu.ordinal, np.float32, *latents)
        if inputs.labels_B is not None:
            labels = inputs.labels_B.shape, inputs.labels_address
            binding.bind_input(LABELS_INPUT, gpu.memory, gpu.ordinal, np.int64, *labels)
        binding.bind_output(PIXELS_OUTPUT, "cpu", 0, dtype.type, shape, pixels.ctypes.data)
        return binding, pixels

    def _run(self, first: int, labels_B: NDArray[np.int64] | None, drawn: DeviceLatents | None) -> None:
        assert self._made is None, "more batches in flight than the lane has room for"
        binding, pixels = self._outputs[0]
        with self._gpu.turn, self._gpu.current(f"onnxruntime failed on a batch of {self._batch}"):
            self._inputs.put(first, labels_B)
            self._inputs.enqueue(self._gpu.stream, drawn)
            self._session.run_with_iobinding(binding)
            self._gpu.stream.sync()
        self._outputs.rotate(-1)
        self._made = pixels
