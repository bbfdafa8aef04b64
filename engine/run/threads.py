"""Shards on threads of this process: each worker has an execution stream and takes the next shard when free."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from functools import partial

from gen_engine.engine.commit.ledger import Committer
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.threads import StopSignal, run_threads
from gen_engine.engine.run.executor import Progress, Task
from gen_engine.engine.run.job import Job
from gen_engine.engine.run.shard import BackgroundCommit, ShardRun, run_shard


class ThreadExecutor:
    """Runs shards on threads. See :class:`~gen_engine.engine.run.executor.Executor`.

    Args:
        workers: number of threads; each also has one that commits.
        job: the job, if this process has opened it.
    """

    def __init__(self, workers: int, job: Job | None = None) -> None:
        self._workers, self._job = workers, job

    def run(self, task: Task, committer: Committer, shards: Iterable[int], progress: Progress) -> None:
        """Render and commit every shard; each worker renders one while it commits the previous one."""
        job = self._job or task.open(task.request.runtime.device)
        stop, numbers = StopSignal(), _Shared(iter(shards))
        with renderers(job, self._workers) as opened:
            works = [partial(_run_shards, job, renderer, committer, numbers, progress, stop) for renderer in opened]
            run_threads(works, stop)


def _run_shards(
    job: Job, renderer: Renderer, committer: Committer, numbers: _Shared, progress: Progress, stop: StopSignal
) -> None:
    """Run one worker: process shards until none is left."""
    stop.check()
    with BackgroundCommit(stop) as commits:
        run = ShardRun(job, renderer, committer, commits, progress, stop)
        for number in numbers:
            run_shard(run, job.plan.shard(number))
            stop.check()


@contextlib.contextmanager
def renderers(job: Job, count: int) -> Iterator[list[Renderer]]:
    """Open an execution stream per worker, and close them at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(job.renderer())) for _ in range(count)]


class _Shared:
    """An iterator that several threads share, each item going to one of them."""

    def __init__(self, items: Iterator[int]) -> None:
        self._items, self._lock = items, threading.Lock()

    def __iter__(self) -> _Shared:
        return self

    def __next__(self) -> int:
        with self._lock:
            return next(self._items)
