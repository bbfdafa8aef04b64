"""Which device and precision a run uses: those requested, or a refusal; "auto" is resolved once and logged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gen_engine.engine.errors import BackendError, BackendUnavailable
from gen_engine.train.errors import ConfigError


def resolve_device(requested: str) -> str:
    """ "cpu" or "cuda" from "auto", "cpu" or "cuda"; BackendUnavailable when there is no such device."""
    if requested not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"unknown device {requested!r}: use auto, cpu or cuda")
    present = torch.cuda.is_available()
    if requested == "cuda" and not present:
        built = torch.version.cuda
        reason = "this torch is built without CUDA" if built is None else f"torch (CUDA {built}) finds no GPU"
        raise BackendUnavailable(
            f"device cuda is not available: {reason}. Use --device cpu, or install a fitting torch."
        )
    if requested == "auto":
        return "cuda" if present else "cpu"
    return requested


def resolve_precision(requested: str, device: str) -> str:
    """ "fp32" or "bf16" from "auto", "fp32" or "bf16"; BackendUnavailable when bf16 would be emulated."""
    if requested not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"unknown precision {requested!r}: use auto, fp32 or bf16")
    native = has_bf16(device)
    if requested == "bf16" and not native:
        raise BackendUnavailable(f"this {device} device has no bfloat16 arithmetic: use --precision fp32")
    if requested == "auto":
        return "bf16" if native else "fp32"
    return requested


def has_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware (CPU: AVX512_BF16 or AMX; GPU: Ampere or later)."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Deterministic kernels inside, the caller's setting afterwards."""
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic  # its stub lacks the attribute
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    # All memory is written before it is read here; filling it with NaN first only costs a kernel an allocation.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
        memory.fill_uninitialized_memory = fill


def home_of(size: int, device: str) -> torch.device:
    """Where data of so many bytes is kept: on the GPU that trains on it if it takes no more than a quarter of it."""
    if device == "cuda" and size <= torch.cuda.mem_get_info()[1] // 4:
        return torch.device("cuda")
    return torch.device("cpu")


def set_threads(count: int | None) -> None:
    """Use this many CPU threads; None leaves torch's own choice."""
    if count is not None:
        torch.set_num_threads(count)


BYTES_PER_PARAMETER = 20
"""float32 weight, gradient, two moments of Adam and, at most, a moving average."""


def check_fits(parameters: int, device: str) -> None:
    """BackendError when the weights and their optimiser's state cannot fit into the device's memory."""
    needed = parameters * BYTES_PER_PARAMETER
    if device == "cuda":
        present = int(torch.cuda.get_device_properties(0).total_memory)
    else:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise BackendError(
            f"the model has {parameters:,} parameters, which take {needed / 1e9:,.1f} GB to train, and {device} has "
            f"{present / 1e9:,.1f} GB: lower --width, --hidden, --latent-dim or --label-dim"
        )
