"""Nothing below a dataset's root is followed out of it, whoever prepared the directory."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import Interrupted, run_job, tree

from gen_engine.engine.base.files import FileRefused
from gen_engine.engine.commit.finish import finish_dataset
from gen_engine.engine.errors import DatasetError, EngineError, OutputError, VerifyError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.sinks import open_sink
from gen_engine.engine.verify import hash_files

REQUEST: dict[str, Any] = {"count": 30, "shard_size": 8, "batch": 4}

STATE_FILES = [
    ".gen-engine",
    ".gen-engine/lock",
    ".gen-engine/plan.json",
    ".gen-engine/draft.json",
    ".gen-engine/parts",
    ".gen-engine/parts/1-of-1",
    ".gen-engine/parts/1-of-1/lock",
    ".gen-engine/parts/1-of-1/journal",
    ".gen-engine/parts/1-of-1/scratch",
    "data",
    "data/train-00000-of-00004.images.npy",
]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What no job may touch."""
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    for name in ("victim", "deep/victim", "plan.json", "journal", "lock"):
        (outside / name).write_bytes(b"precious")
    return outside


def interrupted(tiny: Bundle, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_job(tiny, out, monitor=Interrupted(), **REQUEST)


def put_link(path: Path, outside: Path) -> None:
    """Put a link in the place of what is there, to the same kind of thing."""
    if path.is_dir():
        shutil.rmtree(path)
        path.symlink_to(outside)
    else:
        path.unlink()
        path.symlink_to(outside / "victim")


@pytest.mark.parametrize("name", STATE_FILES)
def test_a_link_in_a_job_is_refused_by_name(tiny: Bundle, tmp_path: Path, outside: Path, name: str) -> None:
    out = tmp_path / "out"
    interrupted(tiny, out)
    put_link(out / name, outside)
    before = tree(outside)
    for attempt in (lambda: run_job(tiny, out, **REQUEST), lambda: finish_dataset(out)):
        with pytest.raises((OutputError, DatasetError)) as caught:
            attempt()
        assert caught.value.exit_code in (3, 5)
        assert tree(outside) == before
        assert (out / name).is_symlink(), "it was replaced in silence"
    with pytest.raises(OutputError, match=re.escape(f"{out / name} is a symbolic link, not a")):
        run_job(tiny, out, **REQUEST)


@pytest.mark.parametrize("name", ["dataset.json", "README.md", "preview.png", "data/train-00000-of-00004.images.npy"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_at_a_final_name_is_not_written_through(
    tiny: Bundle, tmp_path: Path, outside: Path, name: str, dangling: bool
) -> None:
    out = tmp_path / "out"
    interrupted(tiny, out)
    (out / name).unlink(missing_ok=True)
    (out / name).symlink_to(outside / ("new" if dangling else "victim"))
    before = tree(outside)
    with pytest.raises(EngineError, match=re.escape(f"{out / name} is a symbolic link, not a regular file")) as caught:
        run_job(tiny, out, **REQUEST)
    assert caught.value.exit_code == 5
    assert tree(outside) == before


@pytest.mark.parametrize("name", ["data", "data/train-00001-of-00004.images.npy", "dataset.json"])
def test_verify_follows_no_link(tiny: Bundle, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, **REQUEST)
    (out / name).rename(tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises((VerifyError, DatasetError, FileRefused), match="is a symbolic link") as caught:
        hash_files(out, lambda size: None)
    assert caught.value.exit_code in (3, 6)


def test_the_root_itself_may_be_a_link(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    run_job(tiny, tmp_path / "link", **REQUEST)
    assert hash_files(tmp_path / "link", lambda size: None).shards == 4
    assert (tmp_path / "real" / "dataset.json").is_file()


@pytest.mark.parametrize(
    "name", [".gen-engine/lock", ".gen-engine/parts/1-of-1/lock", ".gen-engine/parts/1-of-1/journal"]
)
def test_a_file_that_has_another_name_is_not_written_in_place(
    tiny: Bundle, tmp_path: Path, outside: Path, name: str
) -> None:
    out = tmp_path / "out"
    interrupted(tiny, out)
    (out / name).unlink(missing_ok=True)
    os.link(outside / "victim", out / name)
    with pytest.raises(OutputError, match=re.escape(f"{out / name} has 2 names (hard links)")):
        run_job(tiny, out, **REQUEST)
    assert (outside / "victim").read_bytes() == b"precious"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [fifo, directory])
@pytest.mark.parametrize("name", [name for name in STATE_FILES if name.endswith(("lock", "json", "journal", "npy"))])
def test_what_is_not_a_file_is_refused_by_name(
    tiny: Bundle, tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    out = tmp_path / "out"
    interrupted(tiny, out)
    (out / name).unlink(missing_ok=True)
    make(out / name)
    for attempt in (lambda: run_job(tiny, out, **REQUEST), lambda: finish_dataset(out)):
        with pytest.raises(EngineError) as caught:
            attempt()
        assert caught.value.exit_code in (3, 5)
    with pytest.raises(OutputError, match=re.escape(f"{out / name} is a ")):
        run_job(tiny, out, **REQUEST)


@pytest.mark.parametrize("inside", ["scratch/link", "scratch/deep", "stray"])
def test_deletions_stay_inside(tiny: Bundle, tmp_path: Path, outside: Path, inside: str) -> None:
    out = tmp_path / "out"
    interrupted(tiny, out)
    (out / ".gen-engine" / "parts" / "1-of-1" / inside).symlink_to(outside)
    before = tree(outside)
    run_job(tiny, out, **REQUEST)
    assert not (out / ".gen-engine").exists()
    assert tree(outside) == before


def test_temporary_names_cannot_be_foreseen(tiny: Bundle, tmp_path: Path, outside: Path) -> None:
    """What lay under the names of an earlier version is not written to."""
    out = tmp_path / "out"
    interrupted(tiny, out)
    scratch = out / ".gen-engine" / "parts" / "1-of-1" / "scratch"
    for name in ("README.md.tmp", "dataset.json.tmp", "preview.png.tmp", "data__train-00002-of-00004.images.npy"):
        (scratch / name).symlink_to(outside / "victim")
    before = tree(outside)
    with pytest.raises(OutputError, match="not finished"):
        finish_dataset(out)
    run_job(tiny, out, **REQUEST)
    assert tree(outside) == before


def test_a_name_that_leads_outside_is_refused(tmp_path: Path, outside: Path) -> None:
    sink = open_sink(tmp_path / "out", WHOLE)
    for name in ("../outside/victim", str(outside / "victim"), "data/../../outside/victim"):
        for use in (sink.read, sink.open, sink.exists, sink.digest):
            with pytest.raises(OSError, match="leads outside"):
                use(name)
