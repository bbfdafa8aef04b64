"""What every executor promises, as a test class: subclass it, and say how the executor is made.

::

    class TestMine(ExecutorContract):
        def make(self, workers: int) -> Executor:
            return MyExecutor(workers)
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from jobs import Heard, make_request, recorded, run_job, scratch_files, tree

from gen_engine.engine.commit.ledger import Committer, Ledger
from gen_engine.engine.errors import BackendError, BackendUnavailable, WriterError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.run.executor import CommittedShard, Executor, Task
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.run.write import Outcome, draw_preview, make_draft, run_task
from gen_engine.engine.sample.shard import WrittenFile

JOB = {"count": 400, "shard_size": 20, "batch": 8}
LONG = {"count": 20_000, "shard_size": 20, "batch": 8}


class Recorder:
    """Progress that is recorded; ``on_commit`` may raise, or do harm."""

    def __init__(self, on_commit: Callable[[Recorder], None] = lambda _: None) -> None:
        self.samples = 0
        self.shards: list[CommittedShard] = []
        self._on_commit, self._lock = on_commit, threading.Lock()

    def rendered(self, samples: int) -> None:
        with self._lock:
            self.samples += samples

    def committed(self, shard: CommittedShard) -> None:
        with self._lock:
            self.shards.append(shard)
        self._on_commit(self)


@dataclasses.dataclass(frozen=True)
class Failing(Committer):
    """A committer that fails at one shard: by the disk, or by a bug."""

    at: int = 0
    bug: bool = False

    def commit(self, shard: int, files: Sequence[WrittenFile]) -> None:
        if shard == self.at and self.bug:
            {}["missing"]
        if shard == self.at:
            raise WriterError(f"shard {shard}: no room") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().commit(shard, files)


class ExecutorContract:
    """Bytes, order, errors, signals, and what is left when it is over."""

    def make(self, workers: int) -> Executor:
        raise NotImplementedError

    def kill_a_worker(self) -> bool:
        """SIGKILL one of the running executor's workers; False if it has none that could be killed."""
        return False

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self) -> Iterator[None]:
        before = set(threading.enumerate())
        yield
        assert multiprocessing.active_children() == []
        assert set(threading.enumerate()) <= before

    def run(self, job: Job, out: Path, *, workers: int = 4, monitor: Heard | None = None) -> Outcome:
        """Run a whole job by the executor."""
        return run_task(
            Task.of(job),
            lambda count: self.make(count),
            out,
            draft=make_draft(job),
            draw=lambda: draw_preview(job),
            workers=workers,
            part=WHOLE,
            monitor=monitor or Heard(),
        )

    @pytest.mark.parametrize(("form", "codec"), [("npy", None), ("webdataset", "png"), ("parquet", "png")])
    def test_the_bytes_are_those_of_one_worker(self, tiny: Bundle, tmp_path: Path, form: str, codec: str) -> None:
        fields = JOB | {"format": form, "codec": codec}
        run_job(tiny, tmp_path / "one", workers=1, **fields)
        self.run(open_job(make_request(**fields), tiny), tmp_path / "many", monitor=(heard := Heard()))
        assert tree(tmp_path / "many") == tree(tmp_path / "one")
        assert (heard.samples, heard.shards, heard.starts) == (400, 20, [(400, 0, 4)])

    def test_a_shard_that_is_made_again_changes_nothing(self, tiny: Bundle, tmp_path: Path) -> None:
        """Executors may lose a worker and give its shard to another one."""
        run_job(tiny, tmp_path / "one", workers=1, **JOB)
        job = open_job(make_request(**JOB), tiny)
        with Ledger(tmp_path / "two", job.plan) as ledger:
            numbers = [*range(20), 3, 19, 0, 3]
            self.make(1).run(Task.of(job), ledger.committer, numbers, recorder := Recorder())
        assert [shard.number for shard in recorder.shards] == numbers
        self.run(job, tmp_path / "two")
        assert tree(tmp_path / "two") == tree(tmp_path / "one")

    def test_shards_are_taken_as_workers_are_free(self, tiny: Bundle, tmp_path: Path) -> None:
        """A plan may have more shards than memory: their numbers are no list."""
        job, taken = open_job(make_request(**LONG), tiny), 0
        most_in_flight = 0

        def endless() -> Iterator[int]:
            nonlocal taken
            for number in itertools.count():
                taken += 1
                yield number

        def stop_at_40(recorder: Recorder) -> None:
            nonlocal most_in_flight
            most_in_flight = max(most_in_flight, taken - len(recorder.shards))
            if len(recorder.shards) == 40:
                raise WriterError("enough")

        with Ledger(tmp_path / "out", job.plan) as ledger, pytest.raises(WriterError, match="enough"):
            self.make(3).run(Task.of(job), ledger.committer, endless(), Recorder(stop_at_40))
        assert most_in_flight <= 3 * 3, "one that renders, one that commits, and one of which is not yet known"

    def test_no_shards_are_no_work(self, tiny: Bundle, tmp_path: Path) -> None:
        job = open_job(make_request(**JOB), tiny)
        with Ledger(tmp_path / "out", job.plan) as ledger:
            self.make(2).run(Task.of(job), ledger.committer, iter(()), recorder := Recorder())
        assert recorder.shards == []

    def test_progress_adds_up_and_no_shard_is_counted_before_its_samples(self, tiny: Bundle, tmp_path: Path) -> None:
        job, ahead = open_job(make_request(**JOB), tiny), []

        def compare(recorder: Recorder) -> None:
            ahead.append(recorder.samples - sum(shard.samples for shard in list(recorder.shards)))

        with Ledger(tmp_path / "out", job.plan) as ledger:
            self.make(2).run(Task.of(job), ledger.committer, range(20), recorder := Recorder(compare))
        assert recorder.samples == sum(shard.samples for shard in recorder.shards) == 400
        assert min(ahead) >= 0

    def test_the_first_error_stops_all_and_the_job_resumes(self, tiny: Bundle, tmp_path: Path) -> None:
        fields = LONG | {"count": 4000}
        job, out = open_job(make_request(**fields), tiny), tmp_path / "out"
        with Ledger(out, job.plan) as ledger:
            failing = Failing(ledger.committer.sink, at=7)
            with pytest.raises(WriterError, match=r"^shard 7: no room$") as caught:
                self.make(2).run(Task.of(job), failing, ledger.todo(), Recorder())
            assert "No space left on device" in str(caught.value.__cause__)
            assert scratch_files(out) == []
        done = {entry.shard for entry in recorded(out)}
        assert 3 <= len(done) < 100
        assert 7 not in done
        self.run(job, out, monitor=(heard := Heard()))
        assert heard.shards == 200 - len(done)
        run_job(tiny, tmp_path / "one", workers=1, **fields)
        assert tree(out) == tree(tmp_path / "one")

    def test_a_bug_keeps_its_traceback(self, tiny: Bundle, tmp_path: Path) -> None:
        job = open_job(make_request(**JOB), tiny)
        with Ledger(tmp_path / "out", job.plan) as ledger:
            failing = Failing(ledger.committer.sink, at=2, bug=True)
            with pytest.raises((KeyError, RuntimeError)) as caught:
                self.make(2).run(Task.of(job), failing, ledger.todo(), Recorder())
        shown = str(caught.getrepr(style="native")) + str(caught.value)
        assert "KeyError: 'missing'" in shown
        assert "executor_contract.py" in shown, "where it was raised"

    @pytest.mark.usefixtures("default_sigint")
    def test_ctrl_c_stops_it_within_a_second_and_the_job_resumes(self, tiny: Bundle, tmp_path: Path) -> None:
        job, out = open_job(make_request(**LONG), tiny), tmp_path / "out"
        asked: list[float] = []

        def interrupt(recorder: Recorder) -> None:
            if len(recorder.shards) == 10:
                asked.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)

        with Ledger(out, job.plan) as ledger:
            with pytest.raises(KeyboardInterrupt):
                self.make(2).run(Task.of(job), ledger.committer, ledger.todo(), Recorder(interrupt))
            assert time.monotonic() - asked[0] < 1.5  # a second, on a machine that is busy
            assert scratch_files(out) == []
        assert 10 <= len(recorded(out)) < 1000

    def test_a_worker_that_is_killed_is_a_clear_error_and_the_job_resumes(self, tiny: Bundle, tmp_path: Path) -> None:
        out, fields = tmp_path / "out", LONG | {"count": 4000}
        killed: list[bool] = []

        def kill(recorder: Recorder) -> None:
            if len(recorder.shards) == 3:
                killed.append(self.kill_a_worker())

        job = open_job(make_request(**fields), tiny)
        with Ledger(out, job.plan) as ledger:
            caught: BackendError | None = None
            try:
                self.make(2).run(Task.of(job), ledger.committer, ledger.todo(), Recorder(kill))
            except BackendError as error:
                caught = error
        assert killed == [caught is not None]
        if caught is not None:
            assert "was killed by signal 9 (SIGKILL)" in str(caught)
            assert "run the same command again: finished shards are kept" in str(caught)
        run_job(tiny, tmp_path / "one", workers=1, **fields)
        self.run(job, out, workers=2)
        assert tree(out) == tree(tmp_path / "one")

    def test_a_plan_that_comes_out_differently_there_is_refused(self, tiny: Bundle, tmp_path: Path) -> None:
        task = Task.of(open_job(make_request(**JOB), tiny))
        compute = dataclasses.replace(task.plan.compute, fingerprint="0" * 64)
        other = dataclasses.replace(task, plan=dataclasses.replace(task.plan, compute=compute))
        with Ledger(tmp_path / "out", task.plan) as ledger:
            message = r"would make other samples .*: compute.fingerprint is 0{64} for the job and \w{64} there"
            with pytest.raises(BackendUnavailable, match=message):
                self.make(2).run(other, ledger.committer, ledger.todo(), Recorder())

    def test_a_task_can_be_pickled(self, tiny: Bundle) -> None:
        task = Task.of(open_job(make_request(**JOB), tiny))
        assert pickle.loads(pickle.dumps(task)) == task
