"""CUDA: the GPUs visible to this process, as the driver reports them, and cuda-core, which drives them."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gen_engine.engine.errors import BackendError, BackendUnavailable, EngineError

DRIVER = "libcuda.so.1"
_COMPUTE_CAPABILITY = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


_NO_MEMORY = "; use fewer --workers, or a smaller --batch, which makes another dataset"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, as an engine's record describes the one that it was built on."""

    name: str
    compute_capability: str
    """As ``9.0``."""

    driver: str
    """The newest CUDA version that the driver supports, as ``13.0``."""

    @property
    def architecture(self) -> str:
        """As NVRTC names it: ``90``."""
        return self.compute_capability.replace(".", "")


def visible_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, by ordinal: those of CUDA_VISIBLE_DEVICES where it is set.

    Raises:
        BackendUnavailable: there is no driver, or it reports no GPU; with its reason.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise BackendUnavailable(
            f"no NVIDIA driver here ({error}); install it, on a machine with an NVIDIA GPU, or use --device cpu"
        ) from error
    _check(driver, driver.cuInit(0), "cuInit")
    count, version = ctypes.c_int(), ctypes.c_int()
    _check(driver, driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    _check(driver, driver.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    serves = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return tuple(_gpu(driver, ordinal, serves) for ordinal in range(count.value))


def gpu(ordinal: int) -> Gpu:
    """Return one GPU.

    Raises:
        BackendUnavailable: it does not exist, or there is no GPU; the message says how many there are.
    """
    try:
        gpus = visible_gpus()
    except BackendUnavailable as error:
        raise BackendUnavailable(f"device 'cuda:{ordinal}': {error}") from error.__cause__
    if ordinal >= len(gpus):
        has = ", ".join(f"cuda:{i} ({one.name})" for i, one in enumerate(gpus)) or "none"
        raise BackendUnavailable(
            f"device 'cuda:{ordinal}': no such GPU; visible here: {has}. See CUDA_VISIBLE_DEVICES, or use --device cpu"
        )
    return gpus[ordinal]


def cuda_core() -> Any:
    """Import cuda-core.

    Raises:
        BackendUnavailable: it is not installed, or does not load.
    """
    try:
        return import_module("cuda.core")
    except (ImportError, OSError) as error:
        raise BackendUnavailable(f"cuda-core cannot be imported ({error}); pip install 'gen-engine[cuda]'") from error


def cuda_ordinal(device: str, backend: str, *, others: str = "cpu, ") -> int:
    """Return N of ``cuda:N``, or raise BackendUnavailable with the devices that the backend supports."""
    kind, _, ordinal = device.partition(":")
    if kind != "cuda" or not ordinal.isdecimal():
        raise BackendUnavailable(f"device {device!r}: {backend} supports {others}cuda and cuda:N")
    return int(ordinal)


@contextlib.contextmanager
def runtime_errors(what: str) -> Iterator[None]:
    """Turn what cuda-core or a runtime raises into a BackendError that keeps it as its cause."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # their exceptions share no other base class
        hint = _NO_MEMORY if "OUT_OF_MEMORY" in str(error) else ""
        raise BackendError(f"{what}: {error}{hint}") from error


def _gpu(driver: ctypes.CDLL, ordinal: int, serves: str) -> Gpu:
    handle, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(driver, driver.cuDeviceGet(ctypes.byref(handle), ordinal), "cuDeviceGet")
    _check(driver, driver.cuDeviceGetName(name, len(name), handle), "cuDeviceGetName")
    parts = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        _check(driver, driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle), "cuDeviceGetAttribute")
        parts.append(str(value.value))
    return Gpu(name=name.value.decode(errors="replace"), compute_capability=".".join(parts), driver=serves)


def _check(driver: ctypes.CDLL, result: int, call: str) -> None:
    """Raise BackendUnavailable with the driver's message unless a call succeeded."""
    if result == 0:
        return
    text = ctypes.c_char_p()
    driver.cuGetErrorString(result, ctypes.byref(text))
    message = text.value.decode(errors="replace") if text.value else "unknown error"
    raise BackendUnavailable(
        f"the NVIDIA driver answers {call} with error {result} ({message}); check that nvidia-smi works here, "
        "or use --device cpu"
    )
