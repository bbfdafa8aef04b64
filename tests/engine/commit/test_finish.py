"""What a job ends with: a function of its plan, whatever was edited, removed or left over meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import Heard, recorded, reseal, run_job, stage, tiny_plan, tree

from gen_engine.engine.base.digests import canonical_json, seal
from gen_engine.engine.commit.draft import read_draft
from gen_engine.engine.commit.finish import finish_dataset
from gen_engine.engine.commit.journal import Entry, to_line
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.commit.state import Phase, read_state
from gen_engine.engine.errors import DatasetError, JobUnfinished, OutputError, VerifyError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.plan import Plan, parse_plan
from gen_engine.engine.sinks import open_sink
from gen_engine.engine.verify import hash_files

REQUEST: dict[str, Any] = {"count": 30, "shard_size": 8, "batch": 4}


@pytest.fixture(scope="module")
def expected(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("finish") / "whole"
    run_job(tiny, out, **REQUEST)
    return tree(out)


class Interrupted(Heard):
    def committed(self, samples: int, size: int) -> None:
        super().committed(samples, size)
        if self.shards == 2:
            raise KeyboardInterrupt


@pytest.fixture
def unfinished(tiny: Bundle, tmp_path: Path) -> Path:
    """A job with two of four shards finished."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_job(tiny, out, monitor=Interrupted(), **REQUEST)
    return out


@pytest.fixture
def rendered(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job whose shards are all finished, and which was killed just then."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "finish", lambda ledger: None)
        run_job(tiny, out, **REQUEST)
    return out


def same_size(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


HARMS: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "edited": lambda path: path.write_bytes(b"edited"),
    "same size": same_size,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=list(HARMS))
@pytest.mark.parametrize("name", ["preview.png", "README.md"])
def test_card_and_preview_are_what_they_were_when_the_job_began(
    tiny: Bundle, unfinished: Path, expected: dict[str, bytes], name: str, harm: Callable[[Path], object]
) -> None:
    (unfinished / "README.md").write_bytes(b"there before the job ends")
    harm(unfinished / name)
    run_job(tiny, unfinished, **REQUEST)
    assert tree(unfinished) == expected


@pytest.mark.parametrize("harm", HARMS.values(), ids=list(HARMS))
def test_finish_restores_the_preview(
    rendered: Path, expected: dict[str, bytes], harm: Callable[[Path], object]
) -> None:
    harm(rendered / "preview.png")
    assert finish_dataset(rendered).samples == 30
    assert tree(rendered) == expected


@pytest.mark.parametrize("harm", HARMS.values(), ids=list(HARMS))
@pytest.mark.parametrize("name", ["preview.png", "README.md"])
def test_after_the_end_they_are_verified_and_made_again_by_the_job(
    tiny: Bundle, tmp_path: Path, expected: dict[str, bytes], name: str, harm: Callable[[Path], object]
) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, **REQUEST)
    harm(out / name)
    with pytest.raises(VerifyError, match=rf"the dataset differs: {name}"):
        hash_files(out, lambda _: None)
    before = tree(out)
    with pytest.raises(OutputError, match=rf"{name} .*; run the command that made it again, which restores it"):
        finish_dataset(out)
    assert tree(out) == before
    outcome = run_job(tiny, out, monitor=(heard := Heard()), **REQUEST)
    assert (outcome.rendered, heard.samples) == (0, 0)
    assert [note.split(":")[0] for note in heard.notes] == [f"{name} is made again"]
    assert tree(out) == expected


def test_without_its_list_of_shards_a_dataset_is_made_again(
    tiny: Bundle, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, **REQUEST)
    (out / "shards.jsonl").unlink()
    outcome = run_job(tiny, out, monitor=(heard := Heard()), **REQUEST)
    assert (outcome.rendered, heard.notes) == (30, ["shards.jsonl is made again: shards.jsonl is missing"])
    assert tree(out) == expected


def edit_seed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))


@pytest.mark.parametrize("again", ["finish", "sample"])
@pytest.mark.parametrize(
    "edit",
    [
        edit_seed,
        lambda path: path.write_bytes(path.read_bytes().replace(b'"count": 30', b'"count": 29')),
        lambda path: path.write_bytes(path.read_bytes() + b" "),
        lambda path: path.write_bytes(b'{"count": 1, ' + path.read_bytes()[1:]),
    ],
)
def test_an_edited_plan_is_refused_and_nothing_is_touched(
    tiny: Bundle, rendered: Path, edit: Callable[[Path], object], again: str
) -> None:
    edit(rendered / ".gen-engine" / "plan.json")
    before = tree(rendered)
    with pytest.raises(OutputError, match=r"plan.json: it .*; the job there cannot be resumed: remove .* or choose"):
        finish_dataset(rendered) if again == "finish" else run_job(tiny, rendered, **REQUEST)
    assert tree(rendered) == before


def older_job(out: Path) -> None:
    """A plan as version 2 wrote it, without a seal."""
    plan = json.loads((out / ".gen-engine" / "plan.json").read_bytes())
    (out / ".gen-engine" / "plan.json").write_bytes(canonical_json({"schema": 2, "count": plan["count"]}))


@pytest.mark.parametrize("again", ["finish", "sample"])
def test_a_job_of_an_older_version_is_refused_before_anything_is_written(
    tiny: Bundle, rendered: Path, again: str
) -> None:
    older_job(rendered)
    (rendered / ".gen-engine" / "lock").unlink()
    before = tree(rendered)
    with pytest.raises(OutputError, match=r"plan.json: schema 2, .* finish the job with the version that began it"):
        finish_dataset(rendered) if again == "finish" else run_job(tiny, rendered, **REQUEST)
    assert tree(rendered) == before


@pytest.mark.parametrize("again", ["finish", "sample", "verify"])
def test_a_dataset_of_an_older_version_is_refused_before_anything_is_written(
    tiny: Bundle, tmp_path: Path, again: str
) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, **REQUEST)
    document = json.loads((out / "dataset.json").read_bytes())
    (out / "dataset.json").write_bytes(seal({"schema": 2, "samples": 30, "plan": document["plan"], "shards": []}))
    before = tree(out)
    with pytest.raises(DatasetError, match=r"dataset.json: schema 2, .* read it with the version that made it"):
        {
            "finish": lambda: finish_dataset(out),
            "sample": lambda: run_job(tiny, out, **REQUEST),
            "verify": lambda: hash_files(out, lambda _: None),
        }[again]()
    assert tree(out) == before


DRAFTS: list[dict[str, Any]] = [
    {"card": 5},
    {"preview": None},
    {"preview": {"name": "../x", "bytes": 1, "blake3": "0" * 64}},
    {"plan": "0" * 64},
    {"index": []},
    {"schema": 0},
    {"more": 1},
]


@pytest.mark.parametrize("changes", DRAFTS)
def test_a_sealed_draft_that_makes_no_sense_is_settled_anew(
    tiny: Bundle, rendered: Path, expected: dict[str, bytes], changes: dict[str, Any]
) -> None:
    reseal(rendered / ".gen-engine" / "draft.json", changes)
    with pytest.raises(OutputError, match=r"draft.json is missing; run the job's command again"):
        finish_dataset(rendered)
    assert run_job(tiny, rendered, **REQUEST).rendered == 0
    assert tree(rendered) == expected


def test_a_draft_whose_preview_was_changed_is_settled_anew(
    tiny: Bundle, rendered: Path, expected: dict[str, bytes]
) -> None:
    (rendered / ".gen-engine" / "preview.png").write_bytes(b"edited")
    plan = parse_plan((rendered / ".gen-engine" / "plan.json").read_bytes(), "")
    assert read_draft(open_sink(rendered, WHOLE), plan) is None
    run_job(tiny, rendered, **REQUEST)
    assert tree(rendered) == expected


def journal_line(out: Path, entry: Entry, part: str = "2-of-2") -> None:
    directory = out / ".gen-engine" / "parts" / part
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "journal").open("ab") as journal:
        journal.write(to_line(entry))


def stale(entry: Entry) -> Entry:
    """Return a record of the same files as someone else might have left it."""
    files = (file._replace(file=file.file._replace(blake3="f" * 64), version="1") for file in entry.files)
    return Entry(entry.shard, tuple(files))


FOREIGN: dict[str, Callable[[list[Entry]], Entry]] = {
    "a stale record": lambda entries: stale(entries[0]),
    "another size": lambda e: Entry(0, tuple(f._replace(file=f.file._replace(bytes=1)) for f in e[0].files)),
    "another shard's files": lambda entries: Entry(3, entries[0].files),
    "a file missing": lambda entries: Entry(3, entries[0].files[:1]),
    "a shard that the job has not": lambda entries: Entry(77, entries[0].files),
}


@pytest.mark.parametrize("entry", FOREIGN.values(), ids=list(FOREIGN))
@pytest.mark.parametrize("part", ["2-of-2", "1-of-9", "9-of-9"])
def test_a_line_in_another_parts_journal_does_not_keep_a_job_from_finishing(
    tiny: Bundle, unfinished: Path, expected: dict[str, bytes], entry: Callable[[list[Entry]], Entry], part: str
) -> None:
    journal_line(unfinished, entry(recorded(unfinished)), part)
    outcome = run_job(tiny, unfinished, monitor=(heard := Heard()), **REQUEST)
    assert (outcome.unfinished, outcome.rendered, heard.notes) == (None, 14, [])
    assert tree(unfinished) == expected


def test_a_shard_is_finished_whoever_journaled_it(tiny: Bundle, unfinished: Path, expected: dict[str, bytes]) -> None:
    parts = unfinished / ".gen-engine" / "parts"
    shutil.copytree(parts / "1-of-1", parts / "3-of-7")
    shutil.rmtree(parts / "1-of-1")
    assert run_job(tiny, unfinished, part=Part(1, 2), **REQUEST).rendered == 8
    assert run_job(tiny, unfinished, part=Part(2, 2), **REQUEST).rendered == 6
    assert tree(unfinished) == expected


class Thief(Heard):
    """Removes a finished shard while the job runs."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out = out

    def committed(self, samples: int, size: int) -> None:
        super().committed(samples, size)
        if self.shards == 4:
            min((self.out / "data").iterdir()).unlink()


def test_a_whole_job_that_is_not_finished_is_an_error_to_be_tried_again(
    tiny: Bundle, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(JobUnfinished, match=r"1 of 4 shards are not finished: 0: .* same command") as caught:
        run_job(tiny, out, monitor=Thief(out), **REQUEST)
    assert caught.value.exit_code == 8
    run_job(tiny, out, **REQUEST)
    assert tree(out) == expected


def test_reading_the_state_writes_nothing(tiny: Bundle, unfinished: Path) -> None:
    plan = parse_plan((unfinished / ".gen-engine" / "plan.json").read_bytes(), "")
    before = {path: path.stat().st_mtime_ns for path in unfinished.rglob("*")}
    state = read_state(open_sink(unfinished, WHOLE), plan, WHOLE)
    assert (state.phase, len(state.done), state.damage) == (Phase.UNDERWAY, 2, ())
    assert {path: path.stat().st_mtime_ns for path in unfinished.rglob("*")} == before
    nowhere = unfinished.parent / "nowhere"
    assert read_state(open_sink(nowhere, WHOLE), plan, WHOLE).phase is Phase.NEW
    run_job(tiny, unfinished, **REQUEST)
    assert read_state(open_sink(unfinished, WHOLE), plan, Part(2, 3)).phase is Phase.FINISHED
    os.truncate(min((unfinished / "data").iterdir()), 5)
    assert read_state(open_sink(unfinished, WHOLE), plan, Part(2, 3)).phase is Phase.DAMAGED


def peak_of(out: Path, plan: Plan, part: Part) -> int:
    """Begin a job, finish a few shards, leave it, and go on with it; return the peak of traced memory in bytes."""
    tracemalloc.start()
    for _ in range(2):
        with Ledger(out, plan, part) as ledger:
            todo = ledger.todo()
            for _, shard in zip(range(5), todo, strict=False):
                ledger.commit(shard, stage(plan, ledger.scratch, shard))
            assert ledger.left > 0
    assert len(recorded(out)) == 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("part", [WHOLE, Part(3, 4)])
def test_memory_does_not_grow_with_what_is_planned(tmp_path: Path, part: Part) -> None:
    peak_of(tmp_path / "warm", tiny_plan(10**3, 1), part)
    small = peak_of(tmp_path / "small", tiny_plan(10**3, 1), part)
    large = peak_of(tmp_path / "large", tiny_plan(10**12, 1), part)
    assert large < 1.1 * small


@pytest.mark.parametrize("format_name", ["mds", "npy"])
def test_a_record_has_the_digests_of_its_format_or_counts_as_none(
    tiny: Bundle, tmp_path: Path, format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(tiny, tmp_path / "whole", format=format_name, **REQUEST)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "finish", lambda ledger: None)
        run_job(tiny, out, format=format_name, **REQUEST)
    entries = recorded(out)
    sha256 = None if format_name == "mds" else "0" * 64
    files = tuple(file._replace(file=file.file._replace(sha256=sha256)) for file in entries[1].files)
    journal = out / ".gen-engine" / "parts" / "1-of-1" / "journal"
    journal.write_bytes(b"".join(map(to_line, (entries[0], Entry(1, files), *entries[2:]))))
    assert run_job(tiny, out, format=format_name, **REQUEST).rendered == 8
    assert tree(out) == tree(tmp_path / "whole")
