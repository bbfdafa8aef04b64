"""The CUDA driver by ctypes: pinned memory, copies and timings that need no package, and so judge the packages."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends.cuda import DRIVER


class Driver:
    """A GPU's primary context, made current in the calling thread.

    Args:
        ordinal: which GPU.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._library = ctypes.CDLL(DRIVER)
        device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), ordinal)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.call("cuCtxSetCurrent", self._context)

    def call(self, name: str, *arguments: object) -> None:
        """Call the driver; RuntimeError with the number of its error."""
        result = getattr(self._library, name)(*arguments)
        if result:
            raise RuntimeError(f"{name} answers error {result}")

    def wait(self) -> None:
        """Wait for all that was started in the context."""
        self.call("cuCtxSynchronize")

    def copy_to_host(self, address: int, array: NDArray[np.generic]) -> None:
        """Copy device memory into an array, after all that was started."""
        self.wait()
        self.call("cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(address), _size(array.nbytes))

    @contextlib.contextmanager
    def device_memory(self, size: int) -> Iterator[int]:
        """Device memory of so many bytes; its address."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), _size(size))
        try:
            yield int(address.value)
        finally:
            self.call("cuMemFree_v2", address)

    @contextlib.contextmanager
    def pinned_memory(self, size: int) -> Iterator[int]:
        """Pinned memory of so many bytes; its address."""
        address = ctypes.c_void_p()
        self.call("cuMemAllocHost_v2", ctypes.byref(address), _size(size))
        try:
            yield int(address.value or 0)
        finally:
            self.call("cuMemFreeHost", address)

    def milliseconds(self, name: str, *arguments: object, repeats: int) -> float:
        """Return what one of ``repeats`` asynchronous calls on the default stream takes, by events around them all."""
        begin, end, took = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_float()
        for event in (begin, end):
            self.call("cuEventCreate", ctypes.byref(event), 0)
        self.call(name, *arguments)
        self.call("cuEventRecord", begin, None)
        for _ in range(repeats):
            self.call(name, *arguments)
        self.call("cuEventRecord", end, None)
        self.call("cuEventSynchronize", end)
        # The name without a suffix is deprecated since CUDA 12.8, and still there.
        self.call("cuEventElapsedTime", ctypes.byref(took), begin, end)
        for event in (begin, end):
            self.call("cuEventDestroy_v2", event)
        return took.value / repeats


def _size(size: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(size)
