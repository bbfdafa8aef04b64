"""What is timed in both revisions: whole commands, and pieces of the engine inside one process."""

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
_PATIENCE_S = 120.0
"""After so long a process hangs."""


class WorkloadFailed(Exception):
    """A revision cannot do a workload."""


@dataclass(frozen=True)
class Spent:
    """Seconds of one process, or of the work inside it."""

    elapsed: float
    processor: float


@dataclass(frozen=True)
class Workload:
    """One process.

    Its arguments stand after the interpreter; ``{bundle}``, ``{out}`` and ``{driver}`` in them are filled in.
    """

    name: str
    arguments: tuple[str, ...]
    samples: int = 0
    """How many samples its dataset must hold; 0 if it writes none."""

    def run(self, environment: Environment, bundle: Path, out: Path) -> Spent:
        """Run it once.

        Raises:
            WorkloadFailed: it ended with an error, or did not do its work.
        """
        places = {"bundle": bundle, "out": out, "driver": DRIVER}
        command = [str(environment.python), *(argument.format(**places) for argument in self.arguments)]
        spent, said = _timed(command, out.parent)
        if self.samples:
            written = json.loads((out / "dataset.json").read_text(encoding="utf-8"))["samples"]
            shutil.rmtree(out)
            if written != self.samples:
                raise WorkloadFailed(f"it wrote {written} samples instead of {self.samples}")
        return Spent(**json.loads(said)) if "{driver}" in self.arguments else spent


def _sample(name: str, count: int, *more: str) -> Workload:
    command = ("sample", "{bundle}", "--count", str(count), "--out", "{out}", "--quiet", *more)
    return Workload(name, ("-m", "gen_engine.cli.main", *command), samples=count)


def workloads(count: int = 5_000) -> tuple[Workload, ...]:
    """Return what is timed, with so many samples a dataset."""
    return (
        Workload("--help", ("-m", "gen_engine.cli.main", "--help")),
        _sample("sample, one", 1),
        _sample("sample to npy", count),
        _sample("sample to WebDataset, PNG", count, "--format", "webdataset"),
        _sample("sample to WebDataset, JPEG", count, "--format", "webdataset", "--codec", "jpeg"),
        _sample("sample to Parquet, PNG", count, "--format", "parquet"),
        *(Workload(name, ("{driver}", name, "{bundle}")) for name in ("backend", "latents", "png", "raw")),
    )


def _timed(command: list[str], where: Path) -> tuple[Spent, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (where / "stdout").open("w+", encoding="utf-8") as stdout, (where / "stderr").open("w+b") as stderr:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=where, env=environment, stdout=stdout, stderr=stderr)
        patience = threading.Timer(_PATIENCE_S, process.kill)
        patience.start()
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - began
        patience.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            lines = stderr.read().decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
            raise WorkloadFailed(lines[-1][:200])
        stdout.seek(0)
        return Spent(elapsed, usage.ru_utime + usage.ru_stime), stdout.read()
