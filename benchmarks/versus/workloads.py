"""The workloads that are timed in both revisions: whole commands, and parts of the engine inside one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from versus.environment import Environment

DRIVER = Path(__file__).with_name("driver.py")
_TIMEOUT_S = 120.0
"""A process that runs longer is killed."""


class WorkloadFailed(Exception):
    """A revision cannot run a workload."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one process, or of the work inside it."""

    elapsed: float
    processor: float


@dataclass(frozen=True)
class Workload:
    """One process.

    Its arguments follow the interpreter; ``{bundle}``, ``{out}`` and ``{driver}`` in them are replaced by paths.
    """

    name: str
    arguments: tuple[str, ...]
    samples: int = 0
    """Number of samples that its dataset must contain; 0 if it writes none."""

    def run(self, environment: Environment, bundle: Path, out: Path) -> Timing:
        """Run it once.

        Raises:
            WorkloadFailed: it ended with an error, or wrote the wrong number of samples.
        """
        paths = {"bundle": bundle, "out": out, "driver": DRIVER}
        command = [str(environment.python), *(argument.format(**paths) for argument in self.arguments)]
        timing, output = _timed(command, out.parent)
        if self.samples:
            manifest = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
            shutil.rmtree(out)
            written = (
                manifest["samples"] if "samples" in manifest else manifest["plan"]["count"]
            )  # before 0.2, and since
            if written != self.samples:
                raise WorkloadFailed(f"it wrote {written} samples instead of {self.samples}")
        return Timing(**json.loads(output)) if "{driver}" in self.arguments else timing


def _sample(name: str, count: int, *more: str) -> Workload:
    command = ("sample", "{bundle}", "--count", str(count), "--out", "{out}", "--quiet", *more)
    return Workload(name, ("-m", "gen_engine.cli.main", *command), samples=count)


def workloads(count: int = 5_000) -> tuple[Workload, ...]:
    """Return the workloads, with ``count`` samples per dataset."""
    return (
        Workload("--help", ("-m", "gen_engine.cli.main", "--help")),
        _sample("sample, one", 1),
        _sample("sample to npy", count),
        _sample("sample to WebDataset, PNG", count, "--format", "webdataset"),
        _sample("sample to WebDataset, JPEG", count, "--format", "webdataset", "--codec", "jpeg"),
        _sample("sample to Parquet, PNG", count, "--format", "parquet"),
        *(Workload(name, ("{driver}", name, "{bundle}")) for name in ("backend", "latents", "png", "raw")),
    )


def _timed(command: list[str], where: Path) -> tuple[Timing, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (where / "stdout").open("w+", encoding="utf-8") as stdout, (where / "stderr").open("w+b") as stderr:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=where, env=environment, stdout=stdout, stderr=stderr)
        timeout = threading.Timer(_TIMEOUT_S, process.kill)
        timeout.start()
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - began
        timeout.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            lines = stderr.read().decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
            raise WorkloadFailed(lines[-1][:200])
        stdout.seek(0)
        return Timing(elapsed, usage.ru_utime + usage.ru_stime), stdout.read()
