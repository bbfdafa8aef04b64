"""Whole commands: their start-up time, and their memory, which does not grow with the number of samples.

Work: one process. Limit: starting a Python process that does nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from limits import python_start
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.base.digests import blake3_bytes
from gen_engine.engine.commit.journal import Entry, JournaledFile, to_line
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.commit.records import FileRecord
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run import card
from gen_engine.engine.run.job import open_job

MEMORY = Path("/dev/shm")
COMMAND = [sys.executable, "-m", "gen_engine.cli.main"]


def run(*command: object) -> None:
    """Run a command to its end."""
    subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def peak_memory(*command: object) -> int:
    """Run a command to its end and return its peak resident memory in KiB.

    A small process starts it, because a process inherits the peak of its parent.
    """
    waiter = "import os, sys; p = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); _, s, u = os.wait4(p, 0); "
    waiter += "print(u.ru_maxrss); sys.exit(os.waitstatus_to_exitcode(s))"
    started = [sys.executable, "-S", "-c", waiter, *map(str, command)]
    done = subprocess.run(started, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
    return int(done.stdout.split()[-1])


def test_help_is_fast(against) -> None:
    """Unit: one process. Peer: importing onnxruntime, the minimum cost of any sampling."""
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


def test_one_sample_of_a_compiled_bundle(against, compiled_bundle, out) -> None:
    """Unit: one process that writes a finished dataset of one sample. Peer: importing openvino."""
    bundle = compiled_bundle("shipped").path
    ratios = against(
        lambda: run(*COMMAND, "sample", bundle, "--count", 1, "--out", out(), "--quiet"),
        lambda: run(sys.executable, "-c", "import openvino"),
        rounds=10,
        limit=python_start(),
        work=1,
    )
    against.require_ratio("import openvino ÷ sample --count 1, compiled", ratios, at_least=0.1)
    if against.real:
        seconds = against._benchmark.stats.stats.median
        against.require("seconds for sample --count 1, compiled", seconds, at_most=1.5)


def test_ten_million_samples_in_one_command(against, compiled_bundle, out) -> None:
    """Unit: one process that writes 10,000,000 samples of the compiled shipped bundle. Peer: 100,000 of them.

    It takes 8 GB of disk and minutes. Both processes are measured from start to end.
    """
    small, large = (100_000, 10_000_000) if against.real else (100, 200)
    bundle = compiled_bundle("shipped").path
    peaks: dict[int, int] = {}

    def sample(count: int) -> None:
        directory: Path = out()
        peaks[count] = peak_memory(*COMMAND, "sample", bundle, "--count", count, "--out", directory, "--quiet")
        shutil.rmtree(directory)

    ratios = against(lambda: sample(large), lambda: sample(small), rounds=1)
    rate = ratios[0] * large / small if against.real else 1.0
    against.require("samples/s at 10,000,000 ÷ at 100,000", rate, at_least=0.98)
    against.require("peak memory at 10,000,000 samples ÷ at 100,000", peaks[large] / peaks[small], at_most=1.03)
    against.report("peak memory", peaks[large] / 1024, "MiB")


def test_a_job_of_many_shards(against, tmp_path: Path) -> None:
    """Unit: one process that resumes a job of 100,000 shards with one shard missing and finishes the dataset.

    Peer: the same command on the finished dataset, which has nothing to do. Each shard has three files.
    """
    shards = 100_000 if against.real else 50
    folder = Path(
        tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path)
    )  # in memory: the disk is not measured
    bundle = make_tiny_bundle(tmp_path / "tiny.gen", size=4)
    almost_done(bundle, folder / "job", shards)
    command = [*COMMAND, "sample", bundle.path, "-n", shards, "--shard-size", 1, "--batch", 50, "-q", "-o"]
    peaks: dict[str, int] = {}
    seconds: dict[str, float] = {}

    def timed(what: str) -> None:
        began = time.perf_counter()
        peaks[what] = peak_memory(*command, folder / "job")
        seconds[what] = time.perf_counter() - began

    try:
        timed("resume and finish")
        assert (folder / "job" / "dataset.json").exists()
        against(lambda: timed("find it finished"), lambda: timed("find it finished"), rounds=1)
    finally:
        shutil.rmtree(folder)
    if against.real:
        for what in peaks:
            against.require(f"seconds to {what}, {shards:,} shards", seconds[what], at_most=10.0)
            against.require(f"peak memory to {what}, MiB", peaks[what] / 1024, at_most=286.0)  # 300 MB


def almost_done(bundle: Bundle, out: Path, shards: int) -> None:
    """Write the state of a job of one sample per shard that was killed before its last shard, without rendering it."""
    job = open_job(SampleRequest(count=shards, shard_size=1, runtime=Runtime(batch=50)), bundle)
    digest = blake3_bytes(b"x")
    with Ledger(out, job.plan) as ledger:
        index = job.format.index_head(job.plan.layout, job.codec)
        ledger.prepare(card.readme(job.plan, bundle, job.format), index, lambda: b"")
        with (ledger.scratch.parent / "journal").open("ab") as journal:
            for shard in range(shards - 1):
                files = []
                for name in job.format.file_names(job.plan.layout, shard):
                    (out / name).write_bytes(b"x")
                    version = str((out / name).stat().st_mtime_ns)
                    files.append(JournaledFile(FileRecord(name, 1, digest), version))
                journal.write(to_line(Entry(shard, tuple(files))))
