"""Whole commands: how soon they answer, and how much memory they take however much they write.

Work: one process. Limit: starting a Python that does nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from limits import python_start

COMMAND = [sys.executable, "-m", "gen_engine.cli.main"]


def run(*command: object) -> int:
    """Run a command to its end and return its peak resident memory in KiB."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_maxrss


def test_help_answers_at_once(against) -> None:
    """Unit: one process. Peer: importing onnxruntime, the least that any sampling could cost."""
    ratios = against(
        lambda: run(*COMMAND, "--help"),
        lambda: run(sys.executable, "-c", "import onnxruntime"),
        rounds=15,
        limit=python_start(),
        work=1,
    )
    against.require_ratio("import onnxruntime ÷ gen-engine --help", ratios, at_least=1.0)
    if against.real:
        against.require("seconds for gen-engine --help", against._benchmark.stats.stats.median, at_most=0.3)


def test_one_sample(against, out) -> None:
    """Unit: one process that writes a finished dataset of one sample. Peer: importing onnxruntime."""
    ratios = against(
        lambda: run(*COMMAND, "sample", "--count", 1, "--out", out(), "--quiet"),
        lambda: run(sys.executable, "-c", "import onnxruntime"),
        rounds=15,
        limit=python_start(),
        work=1,
    )
    against.require_ratio("import onnxruntime ÷ sample --count 1", ratios, at_least=0.5)


def test_memory_does_not_grow_with_the_count(against, out) -> None:
    """Unit: one process; 2,000,000 samples against 100,000. The figure is peak resident memory."""
    small, large = (100_000, 2_000_000) if against.real else (100, 200)
    peaks: dict[int, int] = {}

    def sample(count: int) -> None:
        directory: Path = out()
        peaks[count] = run(*COMMAND, "sample", "--count", count, "--out", directory, "--quiet")
        shutil.rmtree(directory)

    against(lambda: sample(large), lambda: sample(small), rounds=1)
    against.require("peak memory at 2,000,000 samples ÷ at 100,000", peaks[large] / peaks[small], at_most=1.05)
    if against.real:
        against.require("peak memory, MiB", peaks[large] / 1024)


def test_a_million_samples_in_one_command(against, out) -> None:
    """Unit: one process that writes 1,000,000 samples. Peer: one that writes 100,000."""
    small, large = (100_000, 1_000_000) if against.real else (100, 200)

    def sample(count: int) -> None:
        directory: Path = out()
        run(*COMMAND, "sample", "--count", count, "--out", directory, "--quiet")
        shutil.rmtree(directory)

    ratios = against(lambda: sample(large), lambda: sample(small), rounds=1)
    rate = ratios[0] * large / small if against.real else 1.0
    against.require("samples/s at 1,000,000 ÷ at 100,000", rate, at_least=0.95)
