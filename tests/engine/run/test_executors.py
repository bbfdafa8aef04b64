"""Threads and worker processes keep the executors' contract; a driver needs no runtime."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from broken_task import Broken
from executor_contract import JOB, ExecutorContract, Recorder
from jobs import Heard, make_request, run_job, tree

from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.errors import BackendError, BackendUnavailable, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.run import processes
from gen_engine.engine.run.executor import Executor, Task
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.run.processes import ProcessExecutor
from gen_engine.engine.run.threads import ThreadExecutor
from gen_engine.engine.run.write import draw_preview, make_draft


class TestThreads(ExecutorContract):
    def make(self, workers: int) -> Executor:
        return ThreadExecutor(workers)


class TestThreadsOfAnOpenedJob(TestThreads):
    """As ``gen-engine sample`` uses it: the job is not opened again, so no plan can differ."""

    def run(self, job: Job, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        self.make = lambda workers: ThreadExecutor(workers, job)  # type: ignore[method-assign]
        return super().run(job, *args, **kwargs)  # type: ignore[arg-type]


class TestProcesses(ExecutorContract):
    def make(self, workers: int) -> Executor:
        return ProcessExecutor(("cpu", "cpu"), workers)

    def kill_a_worker(self) -> bool:
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        return True


@pytest.fixture
def task(tiny: Bundle) -> Broken:
    opened = Task.of(open_job(make_request(**JOB), tiny))
    return Broken(opened.request, opened.bundle, opened.plan)


@pytest.fixture
def ledger(tmp_path: Path, task: Task):  # type: ignore[no-untyped-def]
    with Ledger(tmp_path / "out", task.plan) as opened:
        yield opened


class TestDevices:
    """What may become of the processes of several devices."""

    @pytest.mark.parametrize(
        ("device", "kind", "message"),
        [
            ("absent", BackendUnavailable, "device 'absent': there is none"),
            ("broken", RuntimeError, r"(?s)device broken.*Traceback.*ZeroDivisionError: while it was opened"),
            ("dead", BackendError, "the process of device dead exited with code 7"),
        ],
    )
    def test_one_that_cannot_be_opened_ends_the_others(
        self, task: Task, ledger: Ledger, device: str, kind: type[Exception], message: str
    ) -> None:
        with pytest.raises(kind, match=message) as caught:
            ProcessExecutor(("cpu", device), 2).run(task, ledger.committer, ledger.todo(), Recorder())
        assert multiprocessing.active_children() == []
        if device == "absent":
            cause = caught.value.__cause__
            assert isinstance(cause, processes.RemoteCause)
            assert str(cause) == "OSError: no driver"
            assert "in open" in cause.traceback

    def test_one_that_hangs_is_killed(self, task: Task, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "_PATIENCE_S", 0.3)
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            ProcessExecutor(("hanging", "absent"), 2).run(task, ledger.committer, ledger.todo(), Recorder())
        assert time.monotonic() - began < 30, "it would sleep for a minute"

    @pytest.mark.usefixtures("default_sigint")
    def test_ctrl_c_while_a_device_opens(self, task: Task, ledger: Ledger) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        try:
            with pytest.raises(KeyboardInterrupt):
                ProcessExecutor(("asleep",), 1).run(task, ledger.committer, ledger.todo(), Recorder())
        finally:
            signal.signal(signal.SIGALRM, before)
        assert multiprocessing.active_children() == []

    def test_threads_are_shared_out(self, task: Task, ledger: Ledger) -> None:
        assert [ProcessExecutor("abc", workers)._threads for workers in (1, 2, 3, 4, 6, 7)] == [1, 1, 1, 2, 2, 3]
        assert [len(ProcessExecutor("abc", workers)._devices) for workers in (1, 2, 3, 4)] == [1, 2, 3, 3]


def test_one_shard_needs_no_other_process(tiny: Bundle, tmp_path: Path) -> None:
    class Alone(Heard):
        def rendered(self, samples: int) -> None:
            assert multiprocessing.active_children() == []
            super().rendered(samples)

    run_job(tiny, tmp_path / "out", workers=4, devices=("cpu", "cpu"), monitor=Alone(), count=10)


def test_a_request_is_checked_before_any_process_starts(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="workers 0"):
        run_job(tiny, tmp_path / "out", workers=0, devices=("cpu", "cpu"), **JOB)


@pytest.mark.parametrize("executor", [ThreadExecutor(4), ProcessExecutor(("cpu", "cpu"), 4)], ids=["threads", "procs"])
@pytest.mark.parametrize("at", [0, 2])
def test_a_limit_on_threads_or_processes_is_an_error_that_says_the_fix(
    task: Task, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, executor: Executor, at: int
) -> None:
    """Not ``cannot join thread before it is started``, which hides the cause."""
    honest, started = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) > at:
            raise RuntimeError("can't start new thread")
        honest(thread)

    def spawn(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = set(threading.enumerate())
    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr("multiprocessing.util.spawnv_passfds", spawn)
    with pytest.raises(BackendError, match=r"the system starts no more threads or processes \(.*: use fewer --workers"):
        executor.run(task, ledger.committer, ledger.todo(), Recorder())
    assert set(threading.enumerate()) <= before


DRIVER = """
import pickle, sys
from jobs import Heard
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.run.processes import ProcessExecutor
from gen_engine.engine.run.write import run_task

def main():
    task, draft, image = pickle.load(open(sys.argv[1], "rb"))
    executor = lambda workers: ProcessExecutor(("cpu", "cpu"), workers)
    run_task(task, executor, sys.argv[2], draft=draft, draw=lambda: image, workers=2, part=WHOLE, monitor=Heard())
    assert not {"onnxruntime", "openvino", "tensorrt"} & set(sys.modules)

if __name__ == "__main__":
    main()
"""


def test_a_driver_needs_neither_the_device_nor_its_runtime(tiny: Bundle, tmp_path: Path) -> None:
    """A worker opens the job; plan, draft and preview, which are plain data, go to the driver."""
    job = open_job(make_request(**JOB), tiny)
    (tmp_path / "task").write_bytes(pickle.dumps((Task.of(job), make_draft(job), draw_preview(job))))
    (tmp_path / "driver.py").write_text(DRIVER)
    paths = [str(Path(__file__).parents[2] / "support"), *sys.path]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, tmp_path / "driver.py", tmp_path / "task", tmp_path / "out"]
    subprocess.run(command, check=True, env=env, timeout=120)
    run_job(tiny, tmp_path / "one", workers=1, **JOB)
    assert tree(tmp_path / "out") == tree(tmp_path / "one")


def test_a_plan_is_plain_data(tiny: Bundle) -> None:
    plan = open_job(make_request(**JOB), tiny).plan
    assert isinstance(pickle.loads(pickle.dumps(plan)), Plan)
