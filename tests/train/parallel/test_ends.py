"""How runs of several processes end: by a signal, a lost process, or a refusal; nothing hangs, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen_engine.train import TrainOptions, train
from gen_engine.train.errors import ConfigError, DataError, ProcessLost
from gen_engine.train.parallel.crew import Crew
from gen_engine.train.parallel.member import Member, torchrun_member
from gen_engine.train.runs.checkpoint import load_checkpoint
from gen_engine.train.runs.events import Event, StepDone

Started = list[Any]


def flags(options: dict[str, Any], **more: Any) -> list[str]:
    """These options as the command takes them."""
    chosen = options | more
    conditional = ["--conditional"] if chosen.pop("conditional") else []
    return [*conditional, *(f"--{name.replace('_', '-')}={value}" for name, value in chosen.items())]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gen_engine.cli.main", "train", *arguments]


def children_of(pid: int) -> set[int]:
    """The processes that a process has started, and that have not ended."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return {int(line) for line in found.stdout.split()}


@pytest.fixture
def running(tmp_path: Path, options: dict[str, Any], default_sigint: None) -> Iterator[subprocess.Popen[str]]:
    """The command, with two processes, after its first epoch."""
    arguments = flags(options, epochs=100_000, checkpoint_every=100_000, processes=2, out=tmp_path / "run")
    with subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True) as process:
        try:
            while not (tmp_path / "run" / "metrics.jsonl").exists():
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_once_and_ends_all(
    tmp_path: Path, running: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    others = children_of(running.pid)
    assert len(others) == 1
    running.send_signal(number)
    _, shown = running.communicate(timeout=60)
    assert running.returncode == code, shown
    assert "Traceback" not in shown
    assert "the same command continues" in shown
    assert load_checkpoint(tmp_path / "run").record.processes == 2
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in others)


def test_other_processes_end_with_the_first(running: subprocess.Popen[str]) -> None:
    (other,) = children_of(running.pid)
    running.kill()
    until = time.monotonic() + 30
    while Path(f"/proc/{other}").exists():
        assert time.monotonic() < until, "it outlived the first by 30 s"
        time.sleep(0.05)


def test_a_killed_process_ends_the_run_with_its_checkpoint(
    tmp_path: Path, options: dict[str, Any], started: Started
) -> None:
    def kill(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 40:
            os.kill(started[0].pid, signal.SIGKILL)

    with pytest.raises(ProcessLost, match="process 1 of 3 was killed by SIGKILL") as lost:
        train(out=tmp_path / "run", on_event=kill, **options | {"epochs": 9, "batch": 6, "processes": 3})
    assert lost.value.exit_code == 8
    assert load_checkpoint(tmp_path / "run").record.step == 32  # an epoch


def test_a_process_with_other_data_is_refused(
    tmp_path: Path, options: dict[str, Any], started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file changes before the other process has read it."""
    start = Crew._start

    def with_other_data(crew: Crew, rank: int) -> None:
        images = np.zeros((64, 28, 28), np.uint8)
        np.savez(tmp_path / "other.npz", images=images, labels=np.arange(64) % 2)
        crew._options = TrainOptions(**options | {"data": str(tmp_path / "other.npz"), "processes": 2})
        start(crew, rank)

    monkeypatch.setattr(Crew, "_start", with_other_data)
    with pytest.raises(DataError, match=r"process 1 read other data than process 0"):
        train(out=tmp_path / "run", processes=2, **options)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_process_that_cannot_read_the_data_says_why(
    tmp_path: Path, options: dict[str, Any], started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Crew._start

    def without_data(crew: Crew, rank: int) -> None:
        crew._options = TrainOptions(**options | {"data": str(tmp_path / "missing.npz"), "processes": 2})
        start(crew, rank)

    monkeypatch.setattr(Crew, "_start", without_data)
    with pytest.raises(DataError, match=r"missing\.npz"):
        train(out=tmp_path / "run", processes=2, **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 32, "processes": 3}, "use --batch 30 or 33"),
        ({"batch": 2, "processes": 3}, "use --batch 3$"),
        ({"batch": 36, "processes": 8, "accumulate": 2}, "2 parts of --accumulate take equal shares.* 32 or 48"),
        ({"processes": 0}, "it must be 1 to 64"),
        ({"processes": 2, "dp_epsilon": 1.0}, "--dp-epsilon cannot go together"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainOptions(data="digits", **changes)


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


class TestTorchrun:
    def test_its_variables_say_who_a_process_is(self) -> None:
        assert torchrun_member(TORCHRUN) == Member(rank=3, size=4, local_rank=1)
        assert torchrun_member(TORCHRUN | {"WORLD_SIZE": "1"}) is None
        assert torchrun_member({"RANK": "0", "WORLD_SIZE": "4"}) is None

    def test_other_values_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="WORLD_SIZE='four'"):
            torchrun_member(TORCHRUN | {"WORLD_SIZE": "four"})

    def test_the_command_trains_under_it(self, tmp_path: Path, options: dict[str, Any]) -> None:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
        arguments = ["-m", "gen_engine.cli.main", "train", *flags(options, out=tmp_path / "run"), "--json"]
        result = subprocess.run([*launcher, "--standalone", *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["steps"] == 24  # one record, of process 0
        assert load_checkpoint(tmp_path / "run").record.processes == 2
