"""One shard's way: rendered, then committed in the background, and removed if anything fails."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import make_request, run_job, scratch_files, tree

from gen_engine.engine.errors import BackendError, WriterError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.threads import Stopped, StopSignal
from gen_engine.engine.run.job import open_job
from gen_engine.engine.run.shard import BackgroundCommit, aborted_on_error, render_shard
from gen_engine.engine.writers.staged import StagedFile


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


class TestBackgroundCommit:
    def test_one_at_a_time_in_order_beside_the_stream(self) -> None:
        going_on, done = threading.Event(), []

        def commit(number: int) -> None:
            going_on.wait(10)
            done.append((number, threading.get_ident()))

        with BackgroundCommit(StopSignal()) as commits:
            commits.start(lambda: commit(0))
            assert not done  # the stream goes on while the first shard is committed
            going_on.set()
            for number in range(1, 20):
                commits.start(lambda number=number: commit(number))
                assert len(done) >= number
        assert [number for number, _ in done] == list(range(20))
        assert threading.get_ident() not in {thread for _, thread in done}

    def test_an_error_stops_the_streams_at_once_and_is_raised_once_with_its_traceback(self) -> None:
        stop = StopSignal()

        def the_one_that_fails() -> None:
            raise LookupError("disk")

        with BackgroundCommit(stop) as commits:
            commits.start(the_one_that_fails)
            with pytest.raises(Stopped):  # noqa: PT012 - the stream as it goes on
                while True:
                    stop.check()
                    time.sleep(0.001)
            with pytest.raises(LookupError, match="disk") as caught:
                commits.start(lambda: pytest.fail("after an error"))
            assert "the_one_that_fails" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            commits.wait()

    def test_an_error_that_stops_its_own_stream_is_not_lost(self) -> None:
        stop = StopSignal()

        def fails() -> None:
            raise LookupError("disk")

        with pytest.raises(LookupError, match="disk"), BackgroundCommit(stop) as commits:  # noqa: PT012
            commits.start(fails)
            while True:
                stop.check()
                time.sleep(0.001)

    def test_the_last_error_is_raised_at_the_end_unless_another_is_on_its_way(self) -> None:
        def fails() -> None:
            raise LookupError("disk")

        with pytest.raises(LookupError), BackgroundCommit(StopSignal()) as commits:
            commits.start(fails)
        with pytest.raises(ValueError, match="the stream's own"), BackgroundCommit(StopSignal()) as commits:  # noqa: PT012
            commits.start(fails)
            raise ValueError("the stream's own")


def test_a_generator_that_fails_leaves_no_file(tiny: Bundle, tmp_path: Path) -> None:
    job = open_job(make_request(count=20, shard_size=20, batch=5), tiny)

    def fail(samples: int) -> None:
        raise WriterError("here")

    renderer = job.renderer()
    with pytest.raises(WriterError, match="here"):
        render_shard(job, renderer, job.plan.shard(0), tmp_path, fail)
    writer = render_shard(job, renderer, job.plan.shard(0), tmp_path, lambda _: None)
    assert list(tmp_path.iterdir())
    with pytest.raises(KeyError), aborted_on_error(writer):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    renderer.close()


@pytest.mark.parametrize("where", [(Renderer, "_cut"), (StagedFile, "finish")])
def test_memory_that_runs_out_is_an_error_that_says_the_fix(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[type, str]
) -> None:
    fields = {"count": 60, "shard_size": 10, "batch": 5, "workers": 2}
    run_job(tiny, tmp_path / "whole", **fields)
    honest, calls = getattr(*where), []

    def fails(*args: object) -> object:
        calls.append(args)
        if len(calls) > 40:
            raise MemoryError("realloc of size 147456 failed")
        return honest(*args)

    with monkeypatch.context() as patch:
        patch.setattr(*where, fails)
        message = r"memory ran out \(realloc of size 147456 failed\); use fewer --workers"
        with pytest.raises(BackendError, match=message):
            run_job(tiny, tmp_path / "out", **(fields | {"count": 600}))
    assert scratch_files(tmp_path / "out") == []
    run_job(tiny, tmp_path / "again", **fields)
    assert tree(tmp_path / "again") == tree(tmp_path / "whole")
