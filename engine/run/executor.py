"""The contract of executors, which run a plan's shards.

A shard is a pure function of the plan and its number, and committing it twice has the same result. So an executor may
assign a number to any worker, in any order, and again if a worker is lost; workers may join and leave while it runs. A
worker renders and commits: no sample passes through the process that calls :meth:`Executor.run`, which needs neither
the device nor its runtime.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from gen_engine.engine.base.diff import differences
from gen_engine.engine.commit.ledger import Committer
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import Job, open_job


class CommittedShard(NamedTuple):
    """A shard that is durable and in the journal."""

    number: int
    samples: int
    bytes: int


class Progress(Protocol):
    """Callbacks for the progress of shards. Called from any thread, so they must be quick and thread-safe.

    An exception stops the job and is raised by :meth:`Executor.run`.
    """

    def rendered(self, samples: int) -> None:
        """``samples`` more samples were rendered."""
        ...

    def committed(self, shard: CommittedShard) -> None:
        """A shard was committed. Called once for each shard, unless a lost worker's shard was repeated."""
        ...


@dataclass(frozen=True)
class Task:
    """What a worker needs to open a job for itself. Pickled to reach it."""

    request: SampleRequest
    bundle: Path
    """A path that the worker can read."""

    plan: Plan

    @classmethod
    def of(cls, job: Job) -> Task:
        """Return the task of a job that was opened from a request."""
        assert job.request is not None, "a job that was opened from its plan is not run"
        return cls(job.request, job.bundle.path, job.plan)

    def open(self, device: str) -> Job:
        """Open the job on a device, and check that it has the same plan there.

        Raises:
            BackendUnavailable: its samples would differ from the job's.
            EngineError: as :func:`~gen_engine.engine.run.job.open_job`.
        """
        runtime = replace(self.request.runtime, device=device)
        job = open_job(replace(self.request, runtime=runtime), read_bundle(self.bundle))
        if different := differences(self.plan.to_json(), job.plan.to_json()):
            what = "; ".join(f"{name} is {ours} for the job and {there} there" for name, ours, there in different)
            raise BackendUnavailable(
                f"device {device!r} would make other samples than the job's: {what}. All devices of a job must be of "
                "one model with one driver; leave it out of --device"
            )
        return job


class Executor(Protocol):
    """Runs shards somewhere. Its contract test class is ``ExecutorContract`` in tests/support."""

    def run(self, task: Task, committer: Committer, shards: Iterable[int], progress: Progress) -> None:
        """Render and commit every shard of ``shards``; return when all are committed.

        Numbers are taken one at a time, as workers become free. However this ends, no thread and no process of the
        executor outlives it, and shards under construction leave no file.

        Raises:
            EngineError: the first error of any worker, after the others were stopped: with its class, its message
                and its cause. What is committed stays.
            BackendError: a worker was killed, and the executor does not retry its shards elsewhere.
            KeyboardInterrupt: within about a second, after the workers have stopped.
        """
        ...
