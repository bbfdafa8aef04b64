"""What every place that datasets are written to must do, as a class to be subclassed once a place."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jobs import Heard, run_job, tree

from gen_engine.engine.base.digests import blake3_bytes
from gen_engine.engine.commit.finish import finish_dataset
from gen_engine.engine.commit.journal import Entry, JournaledFile, sorted_entries, to_line
from gen_engine.engine.commit.records import FileRecord
from gen_engine.engine.errors import OutputError, OutputLocked, PlanMismatch
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks import open_sink
from gen_engine.engine.sinks.contract import Sink
from gen_engine.engine.sinks.names import MANIFEST, PLAN, STATE
from gen_engine.engine.verify import hash_files, regenerate_samples


def line(shard: int) -> bytes:
    """A line of a journal."""
    file = FileRecord(f"data/{shard}.bin", 1, "0" * 64)
    return to_line(Entry(shard, (JournaledFile(file, "1"),)))


REQUEST: dict[str, Any] = {"count": 30, "shard_size": 8, "batch": 4}


class Interrupted(Heard):
    """Stops the job like Ctrl-C once a shard is finished."""

    def committed(self, samples: int, size: int) -> None:
        raise KeyboardInterrupt


class SinkContract:
    """Every place passes these. Subclasses give ``place``, a new one, and ``fetch``, all its files with their bytes."""

    def place(self) -> str | Path:
        raise NotImplementedError

    def fetch(self, place: str | Path) -> dict[str, bytes]:
        raise NotImplementedError

    def put(self, place: str | Path, name: str, data: bytes) -> None:
        """Put a file there as somebody else does."""
        raise NotImplementedError

    @pytest.fixture
    def begin(self) -> Any:
        """Open the place for a part and take it."""
        begun: list[tuple[Callable[[], None], Sink]] = []

        def begin(place: str | Path, part: Part = WHOLE) -> Sink:
            sink = open_sink(place, part)
            with sink.gate():
                release = sink.hold()
                sink.create(PLAN, b"{}")
            begun.append((release, sink))
            return sink

        yield begin
        for release, sink in begun:
            release()
            sink.close()

    def stage(self, sink: Sink, name: str, data: bytes) -> WrittenFile:
        path = sink.scratch / name.replace("/", "__")
        path.write_bytes(data)
        return WrittenFile(name, path, len(data), blake3_bytes(data))

    def test_documents_are_written_and_read(self, begin: Any) -> None:
        sink: Sink = begin(self.place())
        for data in (b"first", b"", b"x" * 100_000):
            sink.write("README.md", data)
            assert sink.exists("README.md")
            assert sink.read("README.md") == data
        assert not sink.exists("other.md")
        with pytest.raises(FileNotFoundError):
            sink.read("other.md")

    def test_only_the_first_creates(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        assert sink.read(PLAN) == b"{}"
        with sink.gate():
            assert not open_sink(place, Part(2, 2)).create(PLAN, b"[]")
        assert sink.read(PLAN) == b"{}"

    def test_files_are_moved_whole_to_their_names(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        contents = {"data/a.bin": b"a" * 1000, "data/b.bin": b"", "dataset.json": b"c"}
        staged = [self.stage(sink, name, data) for name, data in contents.items()]
        seen = sink.store(staged)
        assert [one.bytes for one in seen] == [1000, 0, 1]
        assert not any(file.temporary.exists() for file in staged)
        assert {name: data for name, data in self.fetch(place).items() if name in contents} == contents
        look = sink.look()
        assert [look(name) for name in ("data/a.bin", "data/b.bin")] == seen[:2]
        assert look("data/c.bin") is None
        assert sink.blake3("data/a.bin") == blake3_bytes(b"a" * 1000)
        assert set(sink.shard_files()) == {"data/a.bin", "data/b.bin"}

    def test_a_file_that_is_written_again_is_seen(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        (before,) = sink.store([self.stage(sink, "data/a.bin", b"good")])
        self.put(place, "data/a.bin", b"evil")
        after = sink.look()("data/a.bin")
        assert after is not None
        assert after.bytes == before.bytes
        assert after.stamp != before.stamp

    def test_no_line_is_lost_among_threads_copies_and_parts(self, begin: Any) -> None:
        place = self.place()
        sinks = [begin(place, Part(number, 2)) for number in (1, 2)]
        sinks += [pickle.loads(pickle.dumps(sinks[0])), sinks[0]]

        def record(share: int) -> None:
            for shard in range(share, 280, 4):
                sinks[share].record(line(shard))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(record, range(4)))
        assert [entry.shard for entry in sorted_entries(open_sink(place, WHOLE).lines(), range(999))] == list(
            range(280)
        )

    def test_somebody_elses_files_are_refused(self, begin: Any) -> None:
        place = self.place()
        self.put(place, "mine/notes.txt", b"mine")
        with pytest.raises(OutputError, match="has 'mine'"):
            open_sink(place, WHOLE).refuse_strangers()
        begin(place)
        open_sink(place, WHOLE).refuse_strangers()
        assert self.fetch(place)["mine/notes.txt"] == b"mine"

    def test_a_part_is_held_by_one(self, begin: Any) -> None:
        place = self.place()
        begin(place, Part(1, 2))
        begin(place, Part(2, 2))
        with pytest.raises(OutputLocked, match="part 1/2"):
            begin(place, Part(1, 2))

    def test_clearing_leaves_the_dataset(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        sink.store([self.stage(sink, "data/a.bin", b"a"), self.stage(sink, MANIFEST, b"{}")])
        sink.record(line(0))
        with sink.gate():
            sink.clear()
        assert self.fetch(place) == {"data/a.bin": b"a", MANIFEST: b"{}"}
        with sink.gate():
            sink.clear()

    def test_a_job_makes_the_dataset_that_it_makes_in_a_directory(self, tiny: Bundle, tmp_path: Path) -> None:
        place = self.place()
        run_job(tiny, tmp_path / "whole", **REQUEST)
        outcome = run_job(tiny, place, workers=2, **REQUEST)
        assert (outcome.rendered, outcome.unfinished) == (30, None)
        assert self.fetch(place) == tree(tmp_path / "whole")
        assert run_job(tiny, place, **REQUEST).rendered == 0
        assert hash_files(place, lambda size: None).files == 15
        assert regenerate_samples(place, tiny, 11, lambda samples: None) == 11
        with pytest.raises(PlanMismatch, match="seed: 0 there, 1 asked for"):
            run_job(tiny, place, seed=1, **REQUEST)

    def test_an_interrupted_job_goes_on(self, tiny: Bundle, tmp_path: Path) -> None:
        place = self.place()
        run_job(tiny, tmp_path / "whole", **REQUEST)
        for done in (0, 1, 2):
            with pytest.raises(KeyboardInterrupt):
                run_job(tiny, place, monitor=(heard := Interrupted()), **REQUEST)
            assert heard.starts == [(30, 8 * done, 1)]
        with pytest.raises(OutputError, match="1 of 4 shards are not finished: 3"):
            finish_dataset(place)
        self.put(place, "data/train-00001-of-00004.index.npy", bytes(192))
        run_job(tiny, place, monitor=(again := Heard()), **REQUEST)
        assert again.notes == [
            "shard 1 is made again: data/train-00001-of-00004.index.npy was changed since it was written"
        ]
        assert self.fetch(place) == tree(tmp_path / "whole")

    def test_parts_at_once_make_one_dataset(self, tiny: Bundle, tmp_path: Path) -> None:
        place = self.place()
        run_job(tiny, tmp_path / "whole", **REQUEST)
        ready = threading.Barrier(3)

        def make(number: int) -> None:
            ready.wait()
            run_job(tiny, place, part=Part(number, 3), **REQUEST)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(make, (1, 2, 3)))
        assert finish_dataset(place).samples == 30
        assert self.fetch(place) == tree(tmp_path / "whole")
        assert not any(name.startswith(STATE) for name in self.fetch(place))
