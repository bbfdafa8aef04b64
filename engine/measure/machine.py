"""The machine that a measurement is of: its fingerprint, and the load of other processes."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gen_engine.engine.base.files import SYSTEM, read_text
from gen_engine.engine.base.parse import Fields, integer, list_of, mapping_of, text
from gen_engine.engine.base.processor import isa, processor_name, usable_cpus

_LIBRARIES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino")
"""Libraries that compute: with another version of one, a machine counts as another machine."""

_STAT = Path("/proc/stat")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What speeds depend on besides the bundle; speeds are comparable between machines that are equal in all of it."""

    processor: str
    isa: tuple[str, ...]
    """Instruction set extensions."""

    threads: int
    system: str
    gpus: tuple[str, ...]
    """Name and driver version of each NVIDIA GPU."""

    python: str
    libraries: Mapping[str, str]
    """Distribution → version."""

    @classmethod
    def from_json(cls, value: Any, where: str) -> Machine:
        """Parse a machine of a baseline record.

        Raises:
            DocumentError: a field is missing, unknown or not valid.
        """
        with Fields(value, where) as fields:
            return cls(
                processor=fields.take("processor", text()),
                isa=fields.take("isa", list_of(text(), most=100)),
                threads=fields.take("threads", integer(1, 1 << 20)),
                system=fields.take("system", text()),
                gpus=fields.take("gpus", list_of(text(), most=1000)),
                python=fields.take("python", text()),
                libraries=fields.take("libraries", mapping_of(text())),
            )

    def to_json(self) -> dict[str, Any]:
        """Return it as records and reports contain it."""
        return asdict(self) | {"isa": list(self.isa), "gpus": list(self.gpus), "libraries": dict(self.libraries)}


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    return Machine(
        processor=processor_name(),
        isa=tuple(isa()),
        threads=usable_cpus(),
        system=f"{platform.system()} {platform.machine()}",
        gpus=_gpus(),
        python=platform.python_version(),
        libraries={name: number for name in _LIBRARIES if (number := _version(name))},
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _gpus() -> tuple[str, ...]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return ()
    command = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in output.splitlines() if line.strip())


class BackgroundLoad:
    """The share of this process's processors that other processes take, including time stolen by a hypervisor.

    Linux counts in steps of 10 ms, so the share over less than 0.1 s is imprecise.
    """

    def __init__(self) -> None:
        self._cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
        self.known = self._busy() is not None
        """False on a system that does not report it."""
        self._last = self._now()

    def share(self) -> float:
        """Return the share of the processors that other processes took since the last call, 0 to 1."""
        before, self._last = self._last, self._now()
        wall, own, busy = (after - earlier for after, earlier in zip(self._last, before, strict=True))
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
    """Return the seconds for which the processors were not idle, from the lines of /proc/stat (see proc(5))."""
    names = {f"cpu{cpu}" for cpu in cpus}
    ticks = 0
    for line in lines:
        name, *fields = line.split()
        if name in names:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")
