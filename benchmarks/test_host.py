"""The host path alone, behind a generator that costs nothing: what limits one process, however fast a GPU is.

Work: the bytes of the files. The datasets are on a RAM disk.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.measure.free_jobs import Costs, FreeJobs
from gen_engine.engine.measure.host import RAM_DISK
from gen_engine.engine.measure.host_request import DEFAULT_HOST_BATCH, HostRequest
from gen_engine.engine.measure.machine import BackgroundLoad
from gen_engine.engine.native import SWITCH, instrument

QUIET = 0.1
"""Share of the processors that others may take during a round whose wall-clock time counts."""


class Case(NamedTuple):
    """A format of 28×28×1 images, in PNG but for npy."""

    form: str
    samples: int
    """About a second of one worker."""

    two_workers: float
    """Required speed of two workers over one."""

    native: float
    """Required speed of a process with the compiled core over one with NumPy."""

    latents: int = 0
    """Drawn per sample; 0 as for a GPU. Arrays have no other work that the core does."""


CASES = [
    Case("npy", 1_000_000, 1.6, 1.3, latents=64),
    Case("webdataset", 400_000, 1.75, 5.5),
    Case("parquet", 800_000, 1.6, 8),
    Case("mds", 800_000, 1.6, 8),
    Case("tfrecord", 800_000, 1.6, 8),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory on the RAM disk."""
    with tempfile.TemporaryDirectory(dir=RAM_DISK if RAM_DISK.is_dir() else None) as path:
        yield Path(path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.form)
def test_two_workers_over_one(against, folder: Path, case: Case) -> None:
    """Unit: a dataset. Peer: the same by one worker, in processor time. Rounds beside other processes do not count.

    One worker of MDS keeps more than one processor busy: it hashes and writes a shard on its second thread. By the wall
    clock, two such workers could not be faster on two processors.
    """
    samples = case.samples if against.real else 400
    job = FreeJobs(HostRequest(format=case.form, shard_size=samples // 20), DEFAULT_HOST_BATCH).job(samples)
    costs: dict[int, list[Costs]] = {1: [], 2: []}
    loads: dict[int, list[float]] = {1: [], 2: []}

    def write(workers: int) -> Callable[[], None]:
        def run() -> None:
            cost, load = Costs(), BackgroundLoad()
            cost.run(job, folder, workers)
            costs[workers].append(cost)
            loads[workers].append(load.share())

        return run

    against(write(2), write(1), rounds=9)
    pairs = zip(costs[1][-9:], costs[2][-9:], strict=True)
    ratios = [(one.user + one.system) / two.seconds for one, two in pairs]
    of_rounds = [max(pair) for pair in zip(loads[1][-9:], loads[2][-9:], strict=True)]
    require_quiet(against, f"{case.form}: two workers over one", ratios, of_rounds, at_least=case.two_workers)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.form)
def test_native_over_numpy(against, folder: Path, case: Case) -> None:
    """Unit: a process with a worker per processor. Peer: the same without the compiled core.

    The ratio by processor time is reported as well. It is smaller: NumPy keeps the interpreter's lock, and with it the
    other processors idle.
    """
    if instrument() is None:
        pytest.skip("the compiled core is not built")
    samples = case.samples // 4 if against.real else 400
    shard_size = max(1, samples // (10 * usable_cpus()))
    records: dict[str, list[dict[str, Any]]] = {"native": [], "numpy": []}

    def measure(switch: str) -> Callable[[], None]:
        command = [sys.executable, "-m", "gen_engine.cli.main", "bench", "--host", "--json", "--out", str(folder)]
        command += ["--format", case.form, "--count", str(samples), "--shard-size", str(shard_size)]
        command += ["--latents", str(case.latents)] if case.latents else []

        def run() -> None:
            done = subprocess.run(command, env={**os.environ, SWITCH: switch}, stdout=subprocess.PIPE, check=True)
            record = json.loads(done.stdout)
            records[record["implementation"]].append(record)

        return run

    against(measure("1"), measure("0"), rounds=5)
    pairs = list(zip(records["native"][-5:], records["numpy"][-5:], strict=True))

    def ratios(field: str) -> list[float]:
        return [ours[field] / theirs[field] for ours, theirs in pairs]

    of_processor = statistics.median(ratios("samples_per_processor_second"))
    against.report(f"{case.form}: native over NumPy, by processor time", of_processor)
    loads = [max(one["background_load"] for one in pair) for pair in pairs]
    what = f"{case.form}: native over NumPy"
    require_quiet(against, what, ratios("samples_per_second"), loads, at_least=case.native)


def require_quiet(against, what: str, ratios: list[float], loads: list[float], *, at_least: float) -> None:
    """Require a ratio by the wall clock, of the rounds in which other processes did not use the machine.

    Args:
        against: the benchmark.
        what: names the ratio.
        ratios: one per round.
        loads: the share of the processors that others took, one per round.
        at_least: the requirement.
    """
    if not against.real:
        return
    quiet = [ratio for ratio, load in zip(ratios, loads, strict=True) if load < QUIET]
    if len(quiet) < 3 or usable_cpus() < 2:
        pytest.skip(
            f"{what}: {statistics.median(ratios):.2f} with {len(quiet)} quiet rounds on {usable_cpus()} processors, "
            "and it needs three on two"
        )
    against.require_ratio(what, quiet, at_least=at_least)
