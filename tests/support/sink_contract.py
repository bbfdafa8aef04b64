"""What every store of datasets must do: one contract per protocol of the sinks, subclassed by every store."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jobs import Heard, Interrupted, run_job, tree

from gen_engine.engine.base.digests import blake3_bytes
from gen_engine.engine.base.files import FileRefused
from gen_engine.engine.commit.finish import finish_dataset
from gen_engine.engine.commit.journal import Entry, JournaledFile, sorted_entries, to_line
from gen_engine.engine.commit.records import FileRecord
from gen_engine.engine.errors import OutputError, OutputLocked, PlanMismatch
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks import open_reader, open_sink
from gen_engine.engine.sinks.contract import DatasetReader, Sink
from gen_engine.engine.sinks.names import MANIFEST, PLAN, STATE
from gen_engine.engine.verify import hash_files, regenerate_samples


def line(shard: int) -> bytes:
    """A line of a journal."""
    file = FileRecord(f"data/{shard}.bin", 1, "0" * 64)
    return to_line(Entry(shard, (JournaledFile(file, "1"),)))


REQUEST: dict[str, Any] = {"count": 30, "shard_size": 8, "batch": 4}


class StoreContract:
    """What the contracts need of a store: a new place, its files, and a way to put one as another program does."""

    def place(self) -> str | Path:
        raise NotImplementedError

    def fetch(self, place: str | Path) -> dict[str, bytes]:
        raise NotImplementedError

    def put(self, place: str | Path, name: str, data: bytes) -> None:
        """Put a file there as another program does."""
        raise NotImplementedError

    @pytest.fixture
    def begin(self) -> Any:
        """Open the place for a part and take it."""
        begun: list[tuple[Callable[[], None], Sink]] = []

        def begin(place: str | Path, part: Part = WHOLE) -> Sink:
            sink = open_sink(place, part)
            with sink.lock():
                release = sink.acquire_part()
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


class ReaderContract(StoreContract):
    """What every :class:`~gen_engine.engine.sinks.contract.DatasetReader` passes."""

    def reader(self, files: dict[str, bytes]) -> DatasetReader:
        """Return the reader, as another process has it, of a place with these files."""
        place = self.place()
        for name, data in files.items():
            self.put(place, name, data)
        reader: DatasetReader = pickle.loads(pickle.dumps(open_reader(place)))
        assert reader.uri == str(place)
        return reader

    def test_files_are_read_by_ranges(self) -> None:
        data = bytes(range(256)) * 10_000
        reader = self.reader({"data/a.bin": data, "data/empty.bin": b""})
        with reader.open("data/a.bin") as file:
            assert file.seekable()
            assert file.seek(-300, 2) == len(data) - 300
            assert file.read() == data[-300:]
            file.seek(1_000_001)
            assert file.read(7) == data[1_000_001:1_000_008]
            file.seek(0)
            assert file.read() == data
        with reader.open("data/empty.bin") as file:
            assert file.read() == b""

    def test_files_are_looked_up_listed_and_hashed(self) -> None:
        reader = self.reader({"data/b.bin": b"b" * 1000, "data/a.bin": b"", "dataset.json": b"{}"})
        snapshot = reader.snapshot()
        for name, size in (("data/b.bin", 1000), ("data/a.bin", 0), ("dataset.json", 2)):
            assert reader.exists(name)
            found = reader.stat(name)
            assert found is not None
            assert found.bytes == size
            assert snapshot(name) == found
        assert list(reader.list()) == ["data/a.bin", "data/b.bin"]
        assert reader.digest("data/b.bin") == blake3_bytes(b"b" * 1000)
        assert reader.read("dataset.json") == b"{}"

    def test_a_file_that_is_not_there(self) -> None:
        reader = self.reader({"data/a.bin": b"a"})
        for name in ("data/other.bin", "other.json"):
            assert not reader.exists(name)
            assert reader.stat(name) is None
            assert reader.snapshot()(name) is None
            for read in (reader.read, reader.open, reader.digest):
                with pytest.raises(FileNotFoundError):
                    read(name)

    def test_nothing_is_there(self) -> None:
        reader = self.reader({})
        assert (reader.exists("dataset.json"), list(reader.list())) == (False, [])

    def test_a_document_that_is_too_large_is_refused(self) -> None:
        reader = self.reader({"README.md": bytes(1001)})
        assert reader.read("README.md", 1001) == bytes(1001)
        with pytest.raises(FileRefused, match="has 1,001 bytes, and at most 1,000 are read"):
            reader.read("README.md", 1000)


class PublisherContract(StoreContract):
    """What every :class:`~gen_engine.engine.sinks.contract.Publisher` passes."""

    def test_documents_are_written_and_read(self, begin: Any) -> None:
        sink: Sink = begin(self.place())
        for data in (b"first", b"", b"x" * 100_000):
            sink.write("README.md", data)
            assert sink.exists("README.md")
            assert sink.read("README.md") == data
        assert not sink.exists("other.md")
        with pytest.raises(FileNotFoundError):
            sink.read("other.md")

    def test_files_are_moved_whole_to_their_names(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        contents = {"data/a.bin": b"a" * 1000, "data/b.bin": b"", "dataset.json": b"c"}
        staged = [self.stage(sink, name, data) for name, data in contents.items()]
        seen = sink.publish(staged)
        assert [one.bytes for one in seen] == [1000, 0, 1]
        assert not any(file.temporary.exists() for file in staged)
        assert {name: data for name, data in self.fetch(place).items() if name in contents} == contents
        stat = sink.snapshot()
        assert [stat(name) for name in ("data/a.bin", "data/b.bin")] == seen[:2]
        assert stat("data/c.bin") is None
        assert sink.digest("data/a.bin") == blake3_bytes(b"a" * 1000)
        assert set(sink.list()) == {"data/a.bin", "data/b.bin"}

    def test_a_file_that_is_written_again_is_seen(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        (before,) = sink.publish([self.stage(sink, "data/a.bin", b"good")])
        self.put(place, "data/a.bin", b"evil")
        after = sink.snapshot()("data/a.bin")
        assert after is not None
        assert after.bytes == before.bytes
        assert after.version != before.version


class JobStateContract(StoreContract):
    """What every :class:`~gen_engine.engine.sinks.contract.JobState` passes."""

    def test_only_the_first_creates(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        assert sink.read(PLAN) == b"{}"
        with sink.lock():
            assert not open_sink(place, Part(2, 2)).create(PLAN, b"[]")
        assert sink.read(PLAN) == b"{}"

    def test_no_line_is_lost_among_threads_copies_and_parts(self, begin: Any) -> None:
        place = self.place()
        sinks = [begin(place, Part(number, 2)) for number in (1, 2)]
        sinks += [pickle.loads(pickle.dumps(sinks[0])), sinks[0]]

        def record(share: int) -> None:
            for shard in range(share, 280, 4):
                sinks[share].append(line(shard))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(record, range(4)))
        assert [entry.shard for entry in sorted_entries(open_sink(place, WHOLE).journal(), range(999))] == list(
            range(280)
        )

    def test_files_of_another_program_are_refused(self, begin: Any) -> None:
        place = self.place()
        self.put(place, "mine/notes.txt", b"mine")
        with pytest.raises(OutputError, match="has 'mine'"):
            open_sink(place, WHOLE).check_empty()
        begin(place)
        open_sink(place, WHOLE).check_empty()
        assert self.fetch(place)["mine/notes.txt"] == b"mine"

    def test_a_part_is_held_by_one(self, begin: Any) -> None:
        place = self.place()
        begin(place, Part(1, 2))
        begin(place, Part(2, 2))
        with pytest.raises(OutputLocked, match="part 1/2"):
            begin(place, Part(1, 2))

    def test_a_process_that_holds_nothing_changes_nothing_of_the_holders(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        staged = self.stage(sink, "data/a.bin", b"a")
        before = self.fetch(place)

        def refused() -> None:
            other = open_sink(place, WHOLE)
            with pytest.raises(OutputLocked, match="part 1/1") as caught, other.lock():
                other.acquire_part()
            assert caught.value.exit_code == 8
            other.close()

        refused()
        refused()
        assert staged.temporary.read_bytes() == b"a"
        assert self.fetch(place) == before
        assert sink.publish([staged])[0].bytes == 1

    def test_a_part_that_was_released_can_be_taken(self) -> None:
        place = self.place()
        for _ in range(3):
            sink = open_sink(place, WHOLE)
            with sink.lock():
                release = sink.acquire_part()
                sink.create(PLAN, b"{}")
            self.stage(sink, "data/half.bin", b"h")
            release()
            sink.close()
        with (sink := open_sink(place, WHOLE)).lock():
            release = sink.acquire_part()
        assert not list(sink.scratch.glob("*half*"))
        release()
        sink.close()

    def test_clearing_leaves_the_dataset(self, begin: Any) -> None:
        place = self.place()
        sink: Sink = begin(place)
        sink.publish([self.stage(sink, "data/a.bin", b"a"), self.stage(sink, MANIFEST, b"{}")])
        sink.append(line(0))
        with sink.lock():
            sink.clear()
        assert self.fetch(place) == {"data/a.bin": b"a", MANIFEST: b"{}"}
        with sink.lock():
            sink.clear()


class SinkContract(ReaderContract, PublisherContract, JobStateContract):
    """What every :class:`~gen_engine.engine.sinks.contract.Sink` passes: the three contracts, and whole jobs."""

    def test_a_job_makes_the_dataset_that_it_makes_in_a_directory(self, tiny: Bundle, tmp_path: Path) -> None:
        place = self.place()
        run_job(tiny, tmp_path / "whole", **REQUEST)
        outcome = run_job(tiny, place, workers=2, **REQUEST)
        assert (outcome.rendered, outcome.unfinished) == (30, None)
        assert self.fetch(place) == tree(tmp_path / "whole")
        assert run_job(tiny, place, **REQUEST).rendered == 0
        assert hash_files(place, lambda size: None).files == 15
        assert regenerate_samples(place, tiny, 11, lambda samples: None) == 11
        with pytest.raises(PlanMismatch, match="seed: 0 there, 1 requested"):
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

    def test_a_running_job_is_not_disturbed_by_others(self, tiny: Bundle, tmp_path: Path) -> None:
        place = self.place()
        run_job(tiny, tmp_path / "whole", **REQUEST)
        refusals: list[Exception] = []

        class Disturbed(Heard):
            def committed(self, samples: int, size: int) -> None:
                super().committed(samples, size)
                for attempt in (lambda: run_job(tiny, place, **REQUEST), lambda: finish_dataset(place)):
                    if self.shards < 4:
                        with pytest.raises(OutputError) as caught:
                            attempt()
                        refusals.append(caught.value)

        outcome = run_job(tiny, place, workers=1, monitor=Disturbed(), **REQUEST)
        assert (outcome.rendered, outcome.unfinished) == (30, None)
        assert [type(error) is OutputLocked for error in refusals] == [True, False] * 3
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
