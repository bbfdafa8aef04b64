"""A process a device: on processors here, which is all the same to it. Whatever ends one is said, and ends them all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from device_lanes import lanes
from jobs import Heard, recorded, run_job, tree

from gen_engine.engine.errors import BackendError, BackendUnavailable, RequestError, WriterError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.render.lanes import Stopped, StopSignal, run_lanes
from gen_engine.engine.run import processes
from gen_engine.engine.run.job import open_job
from gen_engine.engine.run.processes import DeviceProcesses
from gen_engine.engine.run.shards import DeviceOpener

TWO = ("cpu", "cpu")
REQUEST: dict[str, int] = {"count": 400, "shard_size": 20, "batch": 8}


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def quiet(samples: int) -> None:
    pass


class TestLanes:
    def test_each_device_has_a_process_and_each_lane_its_turn(self) -> None:
        with DeviceProcesses(lanes, ["a", "b"], 2) as opened:
            assert len(opened.lanes) == 4
            pids = [lane(["pid"], quiet) for lane in opened.lanes]
        assert pids[0] == pids[2] != pids[1] == pids[3]
        assert os.getpid() not in pids

    def test_every_item_is_worked_on_once(self) -> None:
        done: list[int] = []
        with DeviceProcesses(lanes, ["a", "b"], 2) as opened:
            works = [lambda item, lane=lane: done.append(lane(item, quiet)) for lane in opened.lanes]
            run_lanes(works, iter(range(200)), StopSignal())
        assert sorted(done) == list(range(200))

    def test_progress_is_heard_now_and_then_and_adds_up(self) -> None:
        heard: list[int] = []
        with DeviceProcesses(lanes, ["a"], 1) as opened:
            assert opened.lanes[0](["count", 40], heard.append) == 40
        assert sum(heard) == 40
        assert 2 <= len([samples for samples in heard if samples]) < 20

    @pytest.mark.parametrize(
        ("item", "kind", "said"),
        [
            (["refuse", "shard 3: no room"], WriterError, "^shard 3: no room$"),
            (["bug"], RuntimeError, r"(?s)bug in the process of device a.*Traceback.*_work.*KeyError: 'missing'"),
            (["die", signal.SIGKILL], BackendError, r"device a was killed by signal 9 \(SIGKILL\); .* memory runs out"),
            (["die", signal.SIGSEGV], BackendError, r"device a was killed by signal 11 \(SIGSEGV\); run the same"),
            (["exit", 3], BackendError, "the process of device a ended by itself with code 3"),
        ],
    )
    def test_what_ends_a_lane_is_said(self, item: list[object], kind: type[Exception], said: str) -> None:
        with DeviceProcesses(lanes, ["a"], 1) as opened, pytest.raises(kind, match=said):
            opened.lanes[0](item, quiet)

    def test_an_error_keeps_its_cause_and_the_traceback_of_its_process(self) -> None:
        with DeviceProcesses(lanes, ["a"], 1) as opened, pytest.raises(WriterError) as caught:
            opened.lanes[0](["refuse", "no room"], quiet)
        cause = caught.value.__cause__
        assert isinstance(cause, processes.RemoteCause)
        assert str(cause) == "OSError: [Errno 28] No space left on device"
        assert "in _work" in cause.traceback

    @pytest.mark.parametrize(
        ("device", "kind", "said"),
        [
            ("absent", BackendUnavailable, "device 'absent': there is none"),
            ("broken", RuntimeError, r"(?s)device broken.*Traceback.*ZeroDivisionError: while it was opened"),
            ("dead", BackendError, "the process of device dead ended by itself with code 7"),
        ],
    )
    def test_a_device_that_cannot_be_opened_ends_the_others(
        self, device: str, kind: type[Exception], said: str
    ) -> None:
        with pytest.raises(kind, match=said), DeviceProcesses(lanes, ["a", device], 1):
            pytest.fail("it was opened")

    def test_processes_end_in_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLOSED_IN_ORDER", str(tmp_path / "closed"))
        with DeviceProcesses(lanes, ["a"], 3):
            pass
        assert (tmp_path / "closed").read_text() == "a"

    def test_one_that_hangs_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "_PATIENCE_S", 0.3)
        began = time.monotonic()
        looks = 0

        def gives_up(samples: int) -> None:
            nonlocal looks
            looks += 1
            if looks > 2:
                raise Stopped

        with DeviceProcesses(lanes, ["a"], 1) as opened, pytest.raises(Stopped):
            opened.lanes[0](["hang"], gives_up)
        assert time.monotonic() - began < 30, "it would sleep for a minute"

    @pytest.mark.usefixtures("default_sigint")
    def test_ctrl_c_while_a_device_opens(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        try:
            with pytest.raises(KeyboardInterrupt), DeviceProcesses(lanes, ["asleep"], 1):
                pytest.fail("it was opened")
        finally:
            signal.signal(signal.SIGALRM, before)


class TestJobs:
    @pytest.mark.parametrize(("form", "codec"), [("npy", None), ("webdataset", "png")])
    def test_the_bytes_are_those_of_one_process(self, tiny: Bundle, tmp_path: Path, form: str, codec: str) -> None:
        request = REQUEST | {"format": form, "codec": codec}
        run_job(tiny, tmp_path / "one", **request)
        run_job(tiny, tmp_path / "two", workers=4, devices=TWO, monitor=(heard := Heard()), **request)
        assert tree(tmp_path / "two") == tree(tmp_path / "one")
        assert (heard.samples, heard.shards, heard.starts) == (400, 20, [(400, 0, 4)])

    def test_one_shard_needs_no_other_process(self, tiny: Bundle, tmp_path: Path) -> None:
        class Alone(Heard):
            def rendered(self, samples: int) -> None:
                assert multiprocessing.active_children() == []
                super().rendered(samples)

        run_job(tiny, tmp_path / "out", workers=4, devices=TWO, monitor=Alone(), count=10)

    def test_a_process_that_is_killed_costs_its_shards_and_the_job_resumes(self, tiny: Bundle, tmp_path: Path) -> None:
        class Killer(Heard):
            def committed(self, samples: int, size: int) -> None:
                super().committed(samples, size)
                if self.shards == 3:
                    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

        out = tmp_path / "out"
        with pytest.raises(BackendError, match=r"device cpu was killed by signal 9 .* run the same command again"):
            run_job(tiny, out, workers=2, devices=TWO, monitor=Killer(), count=4000, shard_size=20, batch=8)
        done = len(recorded(out))
        assert 3 <= done < 200
        run_job(tiny, out, workers=2, devices=TWO, monitor=(heard := Heard()), count=4000, shard_size=20, batch=8)
        assert heard.shards == 200 - done
        run_job(tiny, tmp_path / "one", count=4000, shard_size=20, batch=8)
        assert tree(out) == tree(tmp_path / "one")

    def test_the_first_error_stops_all_and_the_job_resumes(self, tiny: Bundle, tmp_path: Path) -> None:
        """A shard that was done when nobody waited for it any more lies in scratch until then."""

        class Full(Heard):
            def committed(self, samples: int, size: int) -> None:
                raise WriterError("no room for shard 0")

        job = {"count": 4000, "shard_size": 20, "batch": 8}
        with pytest.raises(WriterError, match="no room"):
            run_job(tiny, tmp_path / "out", workers=2, devices=TWO, monitor=Full(), **job)
        assert multiprocessing.active_children() == []
        run_job(tiny, tmp_path / "out", workers=2, devices=TWO, **job)
        run_job(tiny, tmp_path / "one", **job)
        assert tree(tmp_path / "out") == tree(tmp_path / "one")

    def test_a_device_that_makes_other_samples_is_refused(self, tiny: Bundle, tmp_path: Path) -> None:
        request = SampleRequest(**REQUEST)
        plan = open_job(request, tiny).plan.to_json()
        with DeviceOpener(request, tiny.path, tmp_path, plan)("cpu", 2) as opened:
            assert len(opened) == 2
        other = plan | {"compute": plan["compute"] | {"fingerprint": "0" * 64}}
        said = r"device 'cpu' would make other samples .*: compute.fingerprint is 0{64} for the job and \w{64} there"
        with (
            pytest.raises(BackendUnavailable, match=said),
            DeviceOpener(request, tiny.path, tmp_path, other)("cpu", 1),
        ):
            pytest.fail("it was opened")

    def test_a_request_is_checked_before_any_process_starts(self, tiny: Bundle, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="workers 0"):
            run_job(tiny, tmp_path / "out", workers=0, devices=TWO, **REQUEST)
