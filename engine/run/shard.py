"""One shard: rendered by a stream, then committed in the background while the stream renders the next one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gen_engine.engine.commit.ledger import Committer
from gen_engine.engine.errors import BackendError
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.threads import Stopped, StopSignal, submit
from gen_engine.engine.run.executor import CommittedShard, Progress
from gen_engine.engine.run.job import Job
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.contract import ShardWriter

_log = logging.getLogger(__name__)


class BackgroundCommit:
    """Commits a stream's shards on a background thread, one at a time.

    A slow disk does not block the generator, and at most one shard waits for it. Used by one thread, as a context
    manager: no commit outlives the block.

    Args:
        stop: set when a commit fails, so that all streams stop.
    """

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._running: Future[None] | None = None

    def __enter__(self) -> BackgroundCommit:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._pool.shutdown()
        if kind is None or issubclass(kind, Stopped):  # this commit's error may be what stopped the stream
            self.wait()

    def start(self, commit: Callable[[], None]) -> None:
        """Wait for the previous commit, and start this one. If the previous one failed, raise its error instead."""
        self.wait()
        self._running = submit(self._pool, self._guarded, commit)

    def wait(self) -> None:
        """Wait until no commit is running. Raises the last one's error, once."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def _guarded(self, commit: Callable[[], None]) -> None:
        try:
            commit()
        except BaseException:
            self._stop.set()
            raise


@dataclass(frozen=True)
class ShardRun:
    """What the shards of one stream have in common."""

    job: Job
    renderer: Renderer
    committer: Committer
    commits: BackgroundCommit
    progress: Progress
    stop: StopSignal

    def on_rendered(self, samples: int) -> None:
        """Report progress, and abandon the shard if the job is being stopped."""
        self.progress.rendered(samples)
        self.stop.check()


def run_shard(run: ShardRun, shard: Shard) -> None:
    """Render a shard, and start to commit it.

    Raises:
        Stopped: another stream failed, or the job is being stopped.
        BackendError, WriterError: the generator or a write failed, of this shard or of the previous one.
    """
    writer = render_shard(run.job, run.renderer, shard, run.committer.scratch, run.on_rendered)
    with aborted_on_error(writer):
        run.commits.start(lambda: commit_shard(run, shard, writer))


def render_shard(
    job: Job, renderer: Renderer, shard: Shard, scratch: Path, on_rendered: Callable[[int], None]
) -> ShardWriter:
    """Return a writer that has all of a shard's samples in temporary files and waits for its commit."""
    with memory_limit(shard), contextlib.ExitStack() as undo:
        writer: ShardWriter = job.format.open(scratch, job.plan.layout, shard, job.codec)
        undo.enter_context(aborted_on_error(writer))
        for batch in renderer.render(shard.start, shard.stop):
            writer.append(batch)
            on_rendered(len(batch))
    return writer


def commit_shard(run: ShardRun, shard: Shard, writer: ShardWriter) -> None:
    """Make a rendered shard's files durable, publish them and record them."""
    with aborted_on_error(writer), memory_limit(shard):
        files = writer.commit()
        run.committer.commit(shard.number, files)
    size = sum(file.bytes for file in files)
    _log.debug("shard %d committed: %d bytes", shard.number, size)
    run.progress.committed(CommittedShard(shard.number, shard.stop - shard.start, size))


@contextlib.contextmanager
def aborted_on_error(writer: ShardWriter) -> Iterator[None]:
    """Remove a shard's temporary files if the block fails."""
    try:
        yield
    except BaseException:
        writer.abort()
        raise


@contextlib.contextmanager
def memory_limit(shard: Shard) -> Iterator[None]:
    """Turn a MemoryError of NumPy or a format's library into an error that states the fix."""
    try:
        yield
    except MemoryError as error:
        raise BackendError(
            f"shard {shard.number}: memory ran out ({error or type(error).__name__}); use fewer --workers, a smaller "
            "--batch or smaller shards, or raise the limit (ulimit -v, the container's); finished shards are kept"
        ) from error
