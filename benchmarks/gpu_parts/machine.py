"""Which machine a record was taken on, and with which packages."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "torch",
    "onnxruntime-gpu",
    "onnxruntime",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-core",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "nvidia-cudnn-cu13",
    "numpy",
    "onnx",
    "blake3",
)

_ASKED = {
    "gpu": "name",
    "driver": "driver_version",
    "memory": "memory.total",
    "compute capability": "compute_cap",
    "bus": "pcie.link.gen.max",
    "lanes of the bus": "pcie.link.width.max",
}


def gpus() -> list[dict[str, str]]:
    """Return what nvidia-smi says of each GPU; none if it is not here or finds none."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    command = [smi, f"--query-gpu={','.join(_ASKED.values())}", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        return []
    rows = [line.split(", ") for line in said.stdout.strip().splitlines()]
    return [dict(zip(_ASKED, row, strict=True)) for row in rows if len(row) == len(_ASKED)]


def describe() -> dict[str, Any]:
    """Return the GPUs, the processor and the Python that run this."""
    from gen_engine.engine.base.processor import processor_name, usable_cpus

    return {
        "gpus": gpus(),
        "processor": processor_name(),
        "cores": usable_cpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def packages() -> dict[str, str]:
    """Return the versions of the packages that matter and are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if "onnxruntime-gpu" in found:  # whichever else is installed: only this one has the CUDA provider
        found.pop("onnxruntime", None)
    return found
