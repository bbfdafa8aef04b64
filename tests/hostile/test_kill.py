"""The command itself, killed and interrupted at random moments: run again, it ends in the same bytes."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import recorded, tree

from gen_engine.engine.base.digests import blake3_file
from gen_engine.engine.identity.bundle import Bundle

KILLS = 9
"""Of each of five jobs: 45 in all."""

JOBS = [
    ("npy", 1, ["--shard-size", "400"]),
    ("webdataset", 2, ["--shard-size", "330"]),
    ("parquet", 4, ["--shard-size", "400", "--codec", "raw"]),
    ("mds", 2, ["--shard-size", "400"]),
    ("tfrecord", 2, ["--shard-size", "400"]),
]
COUNT = 8_000


def start(bundle: Bundle, out: Path, workers: int, *flags: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "gen_engine.cli.main",
        "sample",
        str(bundle.path),
        "-n",
        str(COUNT),
        "-o",
        str(out),
    ]
    command += ["--workers", str(workers), "--labels", "circle=0.5,star=0.5", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def wait_for_records(process: subprocess.Popen[str], out: Path, *, more: int) -> None:
    """Wait until the job has finished so many more shards than an earlier run left, or has ended."""
    wanted = len(recorded(out)) + more
    while process.poll() is None and len(recorded(out)) < wanted:
        time.sleep(0.002)


def believed_shards_are_whole(out: Path) -> int:
    """Check every line in the journals of an unfinished job against the files, and return how many there are."""
    entries = recorded(out)
    for entry in entries:
        for file, _ in entry.files:
            assert blake3_file(out / file.name) == file.blake3, file.name
    return len(entries)


@pytest.mark.slow
@pytest.mark.parametrize(("format_name", "workers", "flags"), JOBS, ids=[job[0] for job in JOBS])
def test_sigkill_at_random_moments_costs_time_and_nothing_else(
    tiny: Bundle, tmp_path: Path, format_name: str, workers: int, flags: list[str]
) -> None:
    flags = ["--format", format_name, *flags]
    whole, out = tmp_path / "whole", tmp_path / "out"
    finish(start(tiny, whole, workers, *flags))
    expected = tree(whole)
    rng = random.Random(format_name)
    kills = resumed = 0
    while kills < KILLS:
        process = start(tiny, out, workers, *flags)
        if kills % 3:  # the others come while it starts
            wait_for_records(process, out, more=rng.randint(0, 4))
            time.sleep(rng.uniform(0.0, 0.05))
        else:
            time.sleep(rng.uniform(0.05, 0.6))
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            resumed += believed_shards_are_whole(out) > 0
        else:  # it was done first, on top of what earlier ones had done
            assert tree(out) == expected
            shutil.rmtree(out)
    finish(start(tiny, out, workers, *flags))
    assert tree(out) == expected
    assert not (out / ".gen-engine").exists()
    assert resumed, "no kill came while shards were being written: the test proves nothing"


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_job_at_once_and_in_order(tiny: Bundle, tmp_path: Path, number: int, code: int) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    flags = ["--shard-size", "100"]
    finish(start(tiny, whole, 2, *flags))
    process = start(tiny, out, 2, *flags)
    wait_for_records(process, out, more=1)
    asked = time.monotonic()
    process.send_signal(number)
    said, complaint = process.communicate(timeout=30)
    assert process.returncode == code, complaint
    assert time.monotonic() - asked < 5
    assert said == ""
    assert "Traceback" not in complaint
    assert "run the same command again" in complaint
    assert believed_shards_are_whole(out) < COUNT // 100
    finish(start(tiny, out, 2, *flags))
    assert tree(out) == tree(whole)
