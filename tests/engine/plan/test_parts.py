"""Array jobs: parts of one plan, made by several processes in one directory, are the dataset that one process makes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import Heard, commit_shards, recorded, run_job, tiny_plan, tree

from gen_engine.engine.commit.finish import finish_dataset
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.errors import DatasetError, OutputError, OutputLocked, PlanMismatch, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.parts import MAX_PARTS, WHOLE, Part, parse_part
from gen_engine.engine.plan.shard_set import MissingShards, ShardSet

REQUEST = {"count": 50, "shard_size": 8, "batch": 4}
PLAN = tiny_plan(40, 2)


@pytest.fixture(scope="module")
def expected(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("parts") / "whole"
    run_job(tiny, out, **REQUEST)
    return tree(out)


@given(total=st.integers(0, 500), of=st.integers(1, 40))
def test_parts_are_disjoint_and_all(total: int, of: int) -> None:
    shards = [shard for number in range(1, of + 1) for shard in Part(number, of).shards(total)]
    assert sorted(shards) == list(range(total))
    sizes = [len(Part(number, of).shards(total)) for number in range(1, of + 1)]
    assert max(sizes) - min(sizes) <= 1


@given(of=st.integers(1, MAX_PARTS), number=st.integers(1, MAX_PARTS))
def test_a_part_is_named_as_it_is_asked_for(of: int, number: int) -> None:
    if number <= of:
        assert str(parse_part(f"{number}/{of}")) == f"{number}/{of}"
    else:
        with pytest.raises(RequestError, match="counted from 1 to N"):
            parse_part(f"{number}/{of}")


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1 / 4", "1/1000000", "１/4"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="the first of four is 1/4"):
        parse_part(text)


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 1, 2]])
def test_parts_make_the_same_dataset_in_any_order(
    tiny: Bundle, tmp_path: Path, expected: dict[str, bytes], order: list[int]
) -> None:
    out = tmp_path / "out"
    for number in order:
        assert not (out / "dataset.json").exists()
        outcome = run_job(tiny, out, part=Part(number, 3), monitor=(heard := Heard()), **REQUEST)
        assert heard.starts == [(outcome.samples, 0, 1)]
        assert outcome.rendered == outcome.samples == sum(8 if n < 6 else 2 for n in Part(number, 3).shards(7))
    assert outcome.unfinished is None
    assert tree(out) == expected


def test_parts_beyond_the_shards_have_nothing_to_do(tiny: Bundle, tmp_path: Path, expected: dict[str, bytes]) -> None:
    outcomes = [run_job(tiny, tmp_path / "out", part=Part(number, 9), **REQUEST) for number in range(9, 0, -1)]
    assert [outcome.samples for outcome in outcomes] == [0, 0, 2, 8, 8, 8, 8, 8, 8]
    assert [outcome.unfinished is None for outcome in outcomes] == [False] * 8 + [True]
    assert tree(tmp_path / "out") == expected


def test_a_job_may_be_cut_up_anew_where_none_of_it_runs(
    tiny: Bundle, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, part=Part(2, 3), **REQUEST)
    run_job(tiny, out, part=Part(1, 2), monitor=(heard := Heard()), **REQUEST)
    assert heard.starts == [(26, 8, 1)]  # of shards 0, 2, 4, 6, shard 4 was in part 2/3
    assert run_job(tiny, out, **REQUEST).unfinished is None
    assert tree(out) == expected


def test_a_part_that_is_run_again_does_nothing(tiny: Bundle, tmp_path: Path) -> None:
    first = run_job(tiny, tmp_path / "out", part=Part(1, 2), **REQUEST)
    again = run_job(tiny, tmp_path / "out", part=Part(1, 2), monitor=(heard := Heard()), **REQUEST)
    assert (again.rendered, heard.samples, again.bytes) == (0, 0, first.bytes)
    run_job(tiny, tmp_path / "out", part=Part(2, 2), **REQUEST)
    late = run_job(tiny, tmp_path / "out", part=Part(1, 2), **REQUEST)
    assert (late.rendered, late.bytes, late.samples, late.unfinished) == (0, first.bytes, first.samples, None)


def sample(bundle: Bundle, out: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gen_engine.cli.main", "sample", str(bundle.path), "-o", str(out), *flags]
    command += ["-n", "3000", "--shard-size", "100", "--format", "webdataset"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_parts_that_begin_at_once_make_one_dataset(tiny: Bundle, tmp_path: Path) -> None:
    """Each run creates the directory or finds it half created, and any of them may be the last."""
    run_job(tiny, tmp_path / "whole", count=3000, shard_size=100, format="webdataset")
    for attempt in range(3):
        out = tmp_path / f"{attempt}"
        processes = [sample(tiny, out, "--part", f"{number}/4") for number in range(1, 5)]
        ends = [(process.communicate(timeout=60), process.returncode) for process in processes]
        assert [code for _, code in ends] == [0] * 4, ends
        assert tree(out) == tree(tmp_path / "whole")


def test_a_part_is_one_processs_and_a_job_is_cut_up_in_one_way(tmp_path: Path) -> None:
    with Ledger(tmp_path, PLAN, Part(1, 2)), Ledger(tmp_path, PLAN, Part(2, 2)):
        for part in (Part(1, 2), WHOLE, Part(1, 3)):
            with pytest.raises(OutputLocked, match=rf"part [12]/2, process {os.getpid()} on .*; wait for it"):
                Ledger(tmp_path, PLAN, part)
        with pytest.raises(PlanMismatch, match="seed: 0 there, 1 requested"):
            Ledger(tmp_path, tiny_plan(40, 2, seed=1), Part(1, 2))
    with Ledger(tmp_path, PLAN), pytest.raises(OutputLocked, match="part 1/1"):
        Ledger(tmp_path, PLAN, Part(2, 2))


def test_what_a_dead_part_left_in_scratch_is_swept_by_any(tmp_path: Path) -> None:
    with Ledger(tmp_path, PLAN, Part(1, 2)) as first:
        first.scratch.joinpath("half").write_bytes(b"half")
        with Ledger(tmp_path, PLAN, Part(2, 2)):
            assert first.scratch.joinpath("half").exists()
    with Ledger(tmp_path, PLAN, Part(2, 2)):
        assert not first.scratch.exists()


def test_finish_says_what_is_missing(tiny: Bundle, tmp_path: Path, expected: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, part=Part(2, 3), **REQUEST)
    before = tree(out)
    with pytest.raises(OutputError, match="5 of 7 shards are not finished: 0, 2-3, 5-6; run their part") as caught:
        finish_dataset(out)
    assert caught.value.exit_code == 5
    before[".gen-engine/lock"] = tree(out)[".gen-engine/lock"]
    assert tree(out) == before
    run_job(tiny, out, **REQUEST)
    assert finish_dataset(out).samples == 50
    assert tree(out) == expected


def test_many_missing_shards_are_not_all_named() -> None:
    finished = ShardSet(range(100))
    for shard in range(100):
        if shard % 3:
            finished.add(shard)
    assert str(MissingShards(finished)) == (
        "34 of 100 shards are not finished: 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, …"
    )


FINISH = """
import sys
from gen_engine.engine.commit.finish import finish_dataset
finish_dataset(sys.argv[1])
assert not {"onnxruntime", "openvino", "click"} & set(sys.modules)
"""


def test_finish_needs_neither_bundle_nor_backend(
    tiny: Bundle, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:  # as if each part were killed after its last shard
        patch.setattr(Ledger, "finish", lambda ledger: MissingShards(ShardSet(range(7))))
        for number in (1, 2):
            run_job(tiny, out, part=Part(number, 2), **REQUEST)
    subprocess.run([sys.executable, "-c", FINISH, str(out)], check=True)
    assert tree(out) == expected


def test_finish_finds_a_shard_that_was_damaged_since(tiny: Bundle, tmp_path: Path, expected: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, part=Part(1, 2), **REQUEST)
    harmed = sorted((out / "data").glob("*.images.npy"))[0]
    harmed.write_bytes(bytes(harmed.stat().st_size))
    outcome = run_job(tiny, out, part=Part(2, 2), **REQUEST)
    assert str(outcome.unfinished) == "1 of 7 shards are not finished: 0"
    run_job(tiny, out, part=Part(1, 2), monitor=(heard := Heard()), **REQUEST)
    assert heard.notes == [f"shard 0 is made again: data/{harmed.name} was changed since it was written"]
    assert tree(out) == expected


def test_a_shard_that_was_only_touched_is_kept(tiny: Bundle, tmp_path: Path, expected: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, part=Part(1, 2), **REQUEST)
    for path in (out / "data").iterdir():
        os.utime(path)
    run_job(tiny, out, monitor=(heard := Heard()), **REQUEST)
    assert (heard.notes, heard.starts) == ([], [(50, 26, 1)])
    assert tree(out) == expected


def test_finish_of_nothing_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DatasetError, match="holds neither a gen-engine job nor a dataset"):
            finish_dataset(place)
    assert list(tmp_path.iterdir()) == []


def test_processes_of_one_part_commit_side_by_side(tmp_path: Path) -> None:
    with Ledger(tmp_path / "out", PLAN) as ledger, ProcessPoolExecutor(4, get_context("spawn")) as pool:
        ledger.prepare("card", None, lambda: b"preview")
        committer = pickle.dumps(ledger.committer)
        shares = [list(range(first, 20, 5)) for first in range(5)]
        pids = list(pool.map(commit_shards, [committer] * 5, [PLAN] * 5, shares))
        assert os.getpid() not in pids
        assert [entry.shard for entry in recorded(tmp_path / "out")] == list(range(20))
        assert ledger.finish() is None
    assert (tmp_path / "out" / "dataset.json").exists()
