"""The command with a process a device, on processors: signals, and any of its processes killed at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import run_job, tree

from gen_engine.engine.identity.bundle import Bundle

if not Path("/proc/self").is_dir():
    pytest.skip("finds processes in /proc", allow_module_level=True)

PROGRAM = """
import sys
import gen_engine.engine.run.devices as devices
devices.parse_devices = lambda text: ("cpu", "cpu")  # two devices that every machine has
from gen_engine.cli.main import entry
sys.exit(entry())
"""
COUNT = 20_000
JOB = {"count": COUNT, "shard_size": 100, "batch": 10}


@pytest.fixture(scope="module")
def whole(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    run_job(tiny, out, workers=2, **JOB)
    return tree(out)


def start(bundle: Bundle, out: Path) -> subprocess.Popen[str]:
    flags = ["-n", str(COUNT), "-o", str(out), "--shard-size", "100", "--batch", "10", "--workers", "2", "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "sample", str(bundle.path), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its group is its own
    )


def device_processes(session: int) -> list[int]:
    """The processes that a command started for its devices, as the kernel lists them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != session:
            try:
                state, *fields = (entry / "stat").read_text().rpartition(")")[2].split()
                spawned = b"spawn_main" in (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has gone
            if int(fields[2]) == session and spawned and state != "Z":
                found.append(int(entry.name))
    return found


def records(out: Path) -> int:
    """Return how many shards of an unfinished job are recorded."""
    journal = out / ".gen-engine" / "parts" / "1-of-1" / "journal"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def wait_for_records(process: subprocess.Popen[str], out: Path, more: int) -> None:
    wanted = records(out) + more
    while process.poll() is None and records(out) < wanted:
        time.sleep(0.002)


def assert_all_end(session: int) -> None:
    latest = time.monotonic() + 5
    while left := device_processes(session):
        assert time.monotonic() < latest, f"processes {left} outlived their command"
        time.sleep(0.02)


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("to_all", [False, True], ids=["parent", "group"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_processes_in_order(
    tiny: Bundle, tmp_path: Path, whole: dict[str, bytes], number: int, code: int, to_all: bool
) -> None:
    process = start(tiny, tmp_path / "out")
    wait_for_records(process, tmp_path / "out", more=2)
    assert len(device_processes(process.pid)) == 2
    asked = time.monotonic()
    (os.killpg if to_all else os.kill)(process.pid, number)
    said, complaint = process.communicate(timeout=30)
    assert time.monotonic() - asked < 5
    assert (process.returncode, said) == (code, ""), complaint
    assert complaint.splitlines()[-1].endswith("run the same command again and it resumes")
    assert "Traceback" not in complaint
    assert_all_end(process.pid)
    run_job(tiny, tmp_path / "out", workers=2, **JOB)
    assert tree(tmp_path / "out") == whole


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.slow
def test_a_signal_while_the_processes_start(tiny: Bundle, tmp_path: Path) -> None:
    for delay in (0.0, 0.1, 0.2, 0.3):
        process = start(tiny, tmp_path / f"{delay}")
        while process.poll() is None and not device_processes(process.pid):
            time.sleep(0.001)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
        assert process.returncode == 130, complaint
        assert "Traceback" not in complaint
        assert_all_end(process.pid)


@pytest.mark.slow
def test_sigkill_of_any_process_costs_time_and_nothing_else(
    tiny: Bundle, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    rng = random.Random(1)
    kills = {"parent": 0, "device": 0}
    while min(kills.values()) < 5:
        process = start(tiny, out)
        wait_for_records(process, out, more=rng.randint(1, 6))
        victim = rng.choice(list(kills))
        children = device_processes(process.pid)
        if children:
            os.kill(process.pid if victim == "parent" else rng.choice(children), signal.SIGKILL)
        _, complaint = process.communicate(timeout=60)
        assert_all_end(process.pid)
        if process.returncode == 0:  # it was done first
            assert tree(out) == whole
            out = tmp_path / f"out-{sum(kills.values())}"
            continue
        kills[victim] += 1
        if victim == "device":
            assert process.returncode == 4, complaint
            assert "was killed by signal 9 (SIGKILL); the system kills processes this way" in complaint
    run_job(tiny, out, workers=2, **JOB)
    assert tree(out) == whole
