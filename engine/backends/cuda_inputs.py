"""What a batch on a GPU is made from: pinned memory that the host writes, and device memory that the generator reads.

Latents come from the host, or are drawn on the GPU from the index of the first sample. Either way what is enqueued is
the same for every batch, so that it can be captured in a CUDA graph.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends.cuda_latents import BLOCK, KERNEL, compile_kernel, grid
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.latents import LATENT_STREAM, Latents

_FIRST_BYTES = 256
"""Bytes for the index of the first sample before the labels: TensorRT requires tensors aligned to this."""


class DeviceLatents:
    """The table of a job's latents on a GPU, and the kernel that draws them.

    Args:
        core: cuda-core.
        ordinal: the GPU, current on the calling thread.
        architecture: that GPU's, as ``90``.
        stream: orders the copies.
        latents: what to draw.
    """

    def __init__(self, core: Any, ordinal: int, architecture: str, stream: Any, latents: Latents) -> None:
        self.latents = latents
        self._core = core
        self._kernel = compile_kernel(architecture).get_kernel(KERNEL)
        tables = latents.table.intercept, latents.table.slope
        self._tables = [_copied(core, ordinal, stream, table) for table in tables]

    def launch(self, stream: Any, inputs: DeviceInputs) -> None:
        """Enqueue the kernel: latents of the samples from ``inputs.first`` on, into the memory of the inputs."""
        batch = len(inputs.latents_BZ)
        self._core.launch(
            stream,
            self._core.LaunchConfig(grid=grid(self.latents.dim, batch), block=BLOCK),
            self._kernel,
            inputs.first_address,
            np.uint64(self.latents.seed),
            np.uint64(LATENT_STREAM),
            np.uint32(self.latents.dim),
            np.uint32(batch),
            *(int(table.handle) for table in self._tables),
            inputs.latents_address,
        )

    def close(self) -> None:
        """Release the table; no enqueued work may still need it."""
        for table in self._tables:
            table.close()
        self._tables.clear()


class DeviceInputs:
    """Buffers for the inputs of one batch.

    Args:
        core: cuda-core.
        ordinal: the GPU, current on the calling thread.
        stream: orders the allocations.
        bundle: defines the inputs.
        batch: samples.
    """

    def __init__(self, core: Any, ordinal: int, stream: Any, bundle: Bundle, batch: int) -> None:
        memory, pinned = core.DeviceMemoryResource(ordinal), core.LegacyPinnedMemoryResource()
        labels = 0 if bundle.labels is None else 8 * batch
        sizes = (_FIRST_BYTES + labels, 4 * batch * bundle.latent.dim)
        self._device = [memory.allocate(size, stream=stream) for size in sizes]
        self._host = [pinned.allocate(size) for size in sizes]
        head, drawn = self._host
        self._first: NDArray[np.uint64] = pinned_array(head, (1,), np.uint64)
        self.labels_B: NDArray[np.int64] | None = None
        """Written by the host; None for a generator without classes."""
        if labels:
            self.labels_B = pinned_array(head, (batch,), np.int64, offset=_FIRST_BYTES)
        self.latents_BZ: NDArray[np.float32] = pinned_array(drawn, (batch, bundle.latent.dim), np.float32)
        """Written by the host, unless they are drawn on the GPU."""
        self.first_address = int(self._device[0].handle)
        self.labels_address = self.first_address + _FIRST_BYTES
        self.latents_address = int(self._device[1].handle)

    def put(self, first: int, labels_B: NDArray[np.int64] | None) -> None:
        """Write the index of the first sample and the labels, into memory that nothing is currently reading."""
        assert (labels_B is not None) is (self.labels_B is not None), "labels go with a generator that has classes"
        self._first[0] = first
        if self.labels_B is not None and labels_B is not None:
            self.labels_B[:] = labels_B

    def enqueue(self, stream: Any, drawn: DeviceLatents | None) -> None:
        """Enqueue the copies, and the kernel if latents are ``drawn`` on the GPU."""
        copied = 1 if drawn is not None else 2
        for here, there in zip(self._host[:copied], self._device[:copied], strict=True):
            here.copy_to(there, stream=stream)
        if drawn is not None:
            drawn.launch(stream, self)

    def close(self) -> None:
        """Release the buffers; no enqueued work may still need them."""
        for buffer in (*self._device, *self._host):
            buffer.close()
        self._device.clear()
        self._host.clear()


def pinned_array(buffer: Any, shape: tuple[int, ...], dtype: Any, *, offset: int = 0) -> NDArray[Any]:
    """Return pinned memory as an array, which keeps its buffer."""
    memory = (ctypes.c_uint8 * buffer.size).from_address(int(buffer.handle))
    memory._buffer = buffer
    return np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)


def _copied(core: Any, ordinal: int, stream: Any, array: NDArray[Any]) -> Any:
    """Return device memory with an array's content."""
    there = core.DeviceMemoryResource(ordinal).allocate(array.nbytes, stream=stream)
    here = core.LegacyPinnedMemoryResource().allocate(array.nbytes)
    pinned_array(here, array.shape, array.dtype)[:] = array
    here.copy_to(there, stream=stream)
    stream.sync()
    here.close()
    return there
