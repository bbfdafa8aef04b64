"""The machine that a figure is of: what it is, and what else it is doing meanwhile."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gen_engine.engine.base.files import SYSTEM, read_text
from gen_engine.engine.base.processor import isa, processor_name, usable_cpus

_LIBRARIES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino")
"""What computes: another version of one is another machine."""

_STAT = Path("/proc/stat")


def fingerprint() -> dict[str, Any]:
    """Return what figures depend on besides the bundle: equal on machines whose figures can be compared."""
    return {
        "processor": processor_name(),
        "isa": list(isa()),
        "threads": usable_cpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": _gpus(),
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    """Return each NVIDIA GPU's name and its driver's version, as nvidia-smi says them."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    command = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in said.splitlines() if line.strip()]


class Others:
    """How much of this process's processors other work takes, the hypervisor's stealing included.

    Linux counts in steps of 10 ms, so a figure over less than a tenth of a second says little.
    """

    def __init__(self) -> None:
        self._cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
        self.known = self._busy() is not None
        """False where the system does not say."""
        self._last = self._now()

    def share(self) -> float:
        """Return the share of the processors that others took since the last call, 0 to 1."""
        before, self._last = self._last, self._now()
        wall, own, busy = (now - then for now, then in zip(self._last, before, strict=True))
        return min(max((busy - own) / max(wall * len(self._cpus), 1e-9), 0.0), 1.0) if self.known else 0.0

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), self._busy() or 0.0

    def _busy(self) -> float | None:
        try:
            lines = read_text(_STAT, SYSTEM).splitlines()
        except OSError:
            return None
        return busy_seconds(lines, self._cpus)


def busy_seconds(lines: Iterable[str], cpus: Iterable[int]) -> float:
    """Return for how many seconds the processors were not idle, by the lines of /proc/stat (see proc(5))."""
    wanted = {f"cpu{cpu}" for cpu in cpus}
    ticks = 0
    for line in lines:
        name, *fields = line.split()
        if name in wanted:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")
