"""The directory's protocol: who may write, what is believed, what is refused."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from jobs import Heard, make_request, read_manifest, recorded, reseal, run_job, stage, tiny_plan, tree

from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.errors import DatasetError, OutputError, OutputLocked, PlanMismatch, WriterError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.reader import open_manifest
from gen_engine.engine.run.job import open_job
from gen_engine.engine.run.write import write_dataset

REQUEST = {"count": 30, "shard_size": 8, "batch": 4}
PLAN = tiny_plan()


class Interrupted(Heard):
    """Stops the job like Ctrl-C once so many shards are finished."""

    def __init__(self, shards: int) -> None:
        super().__init__()
        self.left = shards

    def committed(self, samples: int, size: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture
def unfinished(tiny: Bundle, tmp_path: Path) -> Path:
    """A job with two of four shards finished."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_job(tiny, out, monitor=Interrupted(2), **REQUEST)
    assert [entry.shard for entry in recorded(out)] == [0, 1]
    return out


@pytest.fixture(scope="module")
def expected(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("ledger") / "whole"
    run_job(tiny, out, **REQUEST)
    return tree(out)


def test_an_interrupted_job_goes_on_where_it_stopped(
    tiny: Bundle, unfinished: Path, expected: dict[str, bytes]
) -> None:
    outcome = run_job(tiny, unfinished, monitor=(heard := Heard()), **REQUEST)
    assert heard.starts == [(30, 16, 1)]
    assert (heard.samples, heard.shards, outcome.rendered, outcome.samples) == (14, 2, 14, 30)
    assert tree(unfinished) == expected


def test_a_finished_job_does_nothing_again(tiny: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, **REQUEST)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    outcome = run_job(tiny, out, monitor=(heard := Heard()), **REQUEST)
    assert (outcome.rendered, heard.samples, heard.notes) == (0, 0, [])
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    assert not (out / ".gen-engine").exists()


CHANGES = [
    ({"seed": 9}, "seed: 0 there, 9 requested"),
    ({"count": 31}, "count: 30 there, 31 requested"),
    ({"shard_size": 10}, "shard_size: 8 there, 10 requested"),
    ({"format": "webdataset"}, 'format.name: "npy" there, "webdataset" requested'),
    ({"labels": "star"}, 'labels.kind: "balanced" there, "constant" requested'),
    ({"truncation": 0.5}, "latents.truncation: null there, 0.5 requested"),
    ({"batch": 5}, "compute.batch: 4 there, 5 requested"),
]


@pytest.mark.parametrize("state", ["unfinished", "finished"])
@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[next(iter(change)) for change, _ in CHANGES])
def test_another_plan_is_refused_with_both_values(
    tiny: Bundle, unfinished: Path, state: str, change: dict[str, object], message: str
) -> None:
    if state == "finished":
        run_job(tiny, unfinished, **REQUEST)
    before = tree(unfinished)
    with pytest.raises(PlanMismatch) as caught:
        run_job(tiny, unfinished, **(REQUEST | change))
    assert message in str(caught.value)
    assert "choose another --out" in str(caught.value)
    assert "fingerprint" not in str(caught.value)
    after = tree(unfinished)
    for files in (before, after):
        files.pop(".gen-engine/lock", None), files.pop(".gen-engine/parts/1-of-1/lock", None)
    assert after == before


def test_another_codec_is_refused(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "out", format="webdataset", **REQUEST)
    with pytest.raises(PlanMismatch, match=r'format.codec: "png/.*" there, "raw/npy-1.0" requested'):
        run_job(tiny, tmp_path / "out", format="webdataset", codec="raw", **REQUEST)


def test_other_kernels_are_told_in_words(tmp_path: Path) -> None:
    Ledger(tmp_path / "out", PLAN).close()
    other = tiny_plan(compute=replace(PLAN.compute, fingerprint="f" * 64))
    with pytest.raises(PlanMismatch, match="kernels round differently") as caught:
        Ledger(tmp_path / "out", other)
    assert "000000000000…" in str(caught.value)
    assert "ffffffffffff…" in str(caught.value)
    assert "on a machine like the first" in str(caught.value)


HOLD = """
import json, sys, time
from pathlib import Path
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.plan.plan import parse_plan
with Ledger(Path(sys.argv[1]), parse_plan(sys.argv[2].encode(), "")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_job_is_refused_until_the_first_one_is_dead(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", HOLD, str(out), PLAN.seal().decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputLocked, match=f"process {process.pid} on {re.escape(os.uname().nodename)}"):
            Ledger(out, PLAN)
        process.kill()
    Ledger(out, PLAN).close()


def test_a_refused_job_does_not_let_go_of_the_first_ones_lock(tmp_path: Path) -> None:
    with Ledger(tmp_path, PLAN):
        for _ in range(2):
            with pytest.raises(OutputLocked):
                Ledger(tmp_path, PLAN)


def test_a_refused_plan_lets_go_of_the_lock(tmp_path: Path) -> None:
    Ledger(tmp_path, PLAN).close()
    with pytest.raises(PlanMismatch):
        Ledger(tmp_path, tiny_plan(seed=1))
    Ledger(tmp_path, PLAN).close()


def test_closing_late_leaves_a_successors_lock_alone(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "out", PLAN)
    first.prepare("card", None, lambda: b"preview")
    for shard in (0, 1):
        first.commit(shard, stage(PLAN, first.scratch, shard))
    assert first.finish() is None  # removes the locks' files
    (tmp_path / "out" / "data" / "train-000001.tar").unlink()
    with Ledger(tmp_path / "out", PLAN):  # has a repair to do, under lock files of its own
        first.close()
        with pytest.raises(OutputLocked):
            Ledger(tmp_path / "out", PLAN)


@pytest.mark.parametrize("make", [lambda p: (p / "mine.txt").write_text("mine"), lambda p: (p / "data").mkdir()])
def test_somebody_elses_directory_is_refused_and_not_touched(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is not empty and holds no gen-engine job"):
        Ledger(tmp_path, PLAN)
    assert tree(tmp_path) == before


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="is not a directory"):
        Ledger(tmp_path / "out", PLAN)
    with pytest.raises(OutputError, match="cannot be used"):
        Ledger(tmp_path / "out" / "deeper", PLAN)


def test_an_empty_directory_and_missing_parents_are_fine(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path, **REQUEST)
    run_job(tiny, tmp_path / "a" / "b", **REQUEST)


def first_shard(out: Path) -> Path:
    return min((out / "data").glob("*.images.npy"))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("state", ["unfinished", "finished"])
@pytest.mark.parametrize(("harm", "message"), [(truncate, "bytes where"), (Path.unlink, "is missing")])
def test_a_shard_that_is_not_as_it_was_left_is_made_again(
    tiny: Bundle,
    unfinished: Path,
    expected: dict[str, bytes],
    state: str,
    harm: Callable[[Path], None],
    message: str,
) -> None:
    if state == "finished":
        run_job(tiny, unfinished, **REQUEST)
    harm(first_shard(unfinished))
    outcome = run_job(tiny, unfinished, monitor=(heard := Heard()), **REQUEST)
    assert len(heard.notes) == 1
    assert "shard 0 is made again: data/train-00000-of-00004.images.npy" in heard.notes[0]
    assert message in heard.notes[0]
    assert outcome.rendered == (8 if state == "finished" else 22)
    assert tree(unfinished) == expected


def journal(out: Path) -> Path:
    return out / ".gen-engine" / "parts" / "1-of-1" / "journal"


DAMAGES = {
    "nothing": lambda line: b"",
    "half": lambda line: line[: len(line) // 2],
    "zeros": lambda line: line[:30] + bytes(len(line) - 31) + b"\n",
    "flipped": lambda line: line.replace(b'"bytes":', b'"bytes":1', 1),
    "no digest": lambda line: line[line.index(b"{") :],
    "no body": lambda line: line[:17] + b"\n",
    "binary": lambda line: b"\xff\x00\n",
}


@pytest.mark.parametrize("harm", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_line_is_a_shard_that_is_not_finished_and_harms_no_other(
    tiny: Bundle, unfinished: Path, expected: dict[str, bytes], harm: Callable[[bytes], bytes]
) -> None:
    before, first, after, second = journal(unfinished).read_bytes().splitlines(keepends=True)
    assert (before, after) == (b"\n", b"\n")
    journal(unfinished).write_bytes(b"\n" + harm(first) + b"\n" + second)
    run_job(tiny, unfinished, monitor=(heard := Heard()), **REQUEST)
    assert heard.starts == [(30, 8, 1)]
    assert tree(unfinished) == expected


def test_a_lost_journal_costs_time_only(tiny: Bundle, unfinished: Path, expected: dict[str, bytes]) -> None:
    journal(unfinished).unlink()
    run_job(tiny, unfinished, monitor=(heard := Heard()), **REQUEST)
    assert heard.starts == [(30, 0, 1)]
    assert tree(unfinished) == expected


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_plan_is_said_with_the_fix(tiny: Bundle, unfinished: Path, damage: bytes) -> None:
    (unfinished / ".gen-engine" / "plan.json").write_bytes(damage)
    with pytest.raises(
        OutputError, match=r"plan.json: it .*; the job there cannot be resumed: remove .* or choose another --out"
    ):
        run_job(tiny, unfinished, **REQUEST)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b'{"digest": "0"}', b"\xff"])
def test_a_damaged_manifest_is_said_with_the_fix(tiny: Bundle, unfinished: Path, damage: bytes) -> None:
    run_job(tiny, unfinished, **REQUEST)
    (unfinished / "dataset.json").write_bytes(damage)
    with pytest.raises(DatasetError, match=r"dataset.json: .* or remove .* and run the command that made it again"):
        run_job(tiny, unfinished, **REQUEST)


@pytest.mark.parametrize(("schema", "fix"), [(99, "update gen-engine"), (2, "read it with the version that made it")])
def test_a_manifest_of_another_schema_is_refused(tiny: Bundle, unfinished: Path, schema: int, fix: str) -> None:
    run_job(tiny, unfinished, **REQUEST)
    reseal(unfinished / "dataset.json", {"schema": schema})
    with pytest.raises(DatasetError, match=rf"schema {schema}, .* reads 3; {fix}"):
        open_manifest(unfinished)


def test_the_manifest_lists_every_shard_and_adds_up(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "out", **REQUEST)
    manifest = read_manifest(tmp_path / "out")
    assert [(shard["shard"], shard["first"], shard["count"]) for shard in manifest["shards"]] == [
        (0, 0, 8),
        (1, 8, 8),
        (2, 16, 8),
        (3, 24, 6),
    ]
    files = [file for shard in manifest["shards"] for file in shard["files"]]
    assert sorted(file["name"] for file in files) == [
        f"data/{p.name}" for p in sorted((tmp_path / "out/data").iterdir())
    ]
    assert manifest["bytes"] == sum(file["bytes"] for file in files)
    assert manifest["plan"]["count"] == 30


def test_a_shard_that_cannot_be_put_in_place_is_not_finished(tmp_path: Path) -> None:
    with Ledger(tmp_path, PLAN) as ledger:
        staged = stage(PLAN, ledger.scratch, 0)
        staged[0].temporary.unlink()
        with pytest.raises(WriterError, match="shard 0 cannot be put in place"):
            ledger.commit(0, staged)
        assert len(ledger.done) == 0
    with Ledger(tmp_path, PLAN) as ledger:
        assert len(ledger.done) == 0


@pytest.mark.parametrize("failing", range(1, 4))
def test_a_failed_commit_leaves_nothing_in_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    with Ledger(tmp_path / "out", PLAN) as ledger:
        files = stage(PLAN, ledger.scratch, 0)
        calls = iter(range(1, 99))
        fsync, rename = os.fsync, os.rename

        def full(call: Callable[..., None], *args: object) -> None:
            if next(calls) == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            call(*args)

        monkeypatch.setattr(os, "fsync", lambda descriptor: full(fsync, descriptor))
        monkeypatch.setattr(Path, "replace", lambda path, target: full(rename, path, target))
        with pytest.raises(WriterError, match="No space left"):
            ledger.commit(0, files)
        assert list(ledger.scratch.iterdir()) == []
        assert len(ledger.done) == 0


def test_scratch_of_a_dead_job_is_swept(tiny: Bundle, unfinished: Path, expected: dict[str, bytes]) -> None:
    journal(unfinished).with_name("scratch").joinpath("data__half.npy").write_bytes(b"half")
    run_job(tiny, unfinished, **REQUEST)
    assert tree(unfinished) == expected


def test_the_finished_directory_does_not_say_where_or_when_it_was_made(tiny: Bundle, tmp_path: Path) -> None:
    job = open_job(make_request(**REQUEST), tiny)
    for place in ("a", "elsewhere"):
        write_dataset(job, tmp_path / place, workers=1, monitor=Heard())
    assert tree(tmp_path / "a") == tree(tmp_path / "elsewhere")
    assert all(str(tmp_path).encode() not in data for data in tree(tmp_path / "a").values())
