"""How fast bytes come to the host and move on the GPU: the limits that the other parts are held against."""

from __future__ import annotations

import ctypes

from gpu_parts.contract import Findings
from gpu_parts.driver import Driver

SIZE = 256 << 20
"""Bytes a copy: more than any cache holds."""

PINNED, ON_DEVICE = "pinned memory, device to host", "device memory, read and written"


def run(found: Findings) -> None:
    """Time large copies by events."""
    driver = Driver()
    with driver.device_memory(SIZE) as there, driver.device_memory(SIZE) as other, driver.pinned_memory(SIZE) as here:
        device, copy, host = ctypes.c_uint64(there), ctypes.c_uint64(other), ctypes.c_void_p(here)
        size = ctypes.c_size_t(SIZE)
        driver.call("cuMemsetD8_v2", device, ctypes.c_ubyte(0x5A), size)
        took = driver.milliseconds("cuMemcpyDtoHAsync_v2", host, device, size, None, repeats=20)
        found.figure(PINNED, SIZE / took / 1e6, "GB/s")
        took = driver.milliseconds("cuMemcpyHtoDAsync_v2", device, host, size, None, repeats=20)
        found.figure("pinned memory, host to device", SIZE / took / 1e6, "GB/s")
        took = driver.milliseconds("cuMemcpyDtoDAsync_v2", copy, device, size, None, repeats=50)
        found.figure(ON_DEVICE, 2 * SIZE / took / 1e6, "GB/s")
    found.check("copies of 256 MiB", True)
