"""The processor that this process runs on, as its operating system describes it."""

from __future__ import annotations

import os
import platform

from gen_engine.engine.base.files import SYSTEM, read_text

SIMD = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16"),
)
"""Instruction sets that determine a generator's speed, x86 and Arm, by the kernel's names."""


def processor_name() -> str:
    """Return the processor's name for people."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def isa() -> tuple[str, ...]:
    """Return which of :data:`SIMD` this processor has, in that order; none where the system does not list them."""
    info = _cpu_info()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return tuple(flag for flag in SIMD if flag in flags)


def _cpu_info() -> dict[str, str]:
    """Return Linux's description of its first processor; empty on other systems."""
    try:
        text = read_text("/proc/cpuinfo", SYSTEM, errors="replace")
    except OSError:
        return {}
    fields = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in fields}


def usable_cpus() -> int:
    """Return the number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
