"""The contract tests of output formats, as a class to subclass once per format and codec::

class TestZarr(FormatContract):
    name = "zarr"

    def load(self, out, data):  # through a reader that is not the format's own
        ...
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from blake3 import blake3
from numpy.typing import NDArray

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.errors import VerifyError, WriterError
from gen_engine.engine.reader import differing_fields
from gen_engine.engine.sample.schema import Batch, Field, Record
from gen_engine.engine.sample.shard import FinishedShard, Shard
from gen_engine.engine.testing.data import CLASS_NAMES, SEED, START, STOP, Data
from gen_engine.engine.testing.full_disk import FullDisk
from gen_engine.engine.writers import open_format, staged
from gen_engine.engine.writers.contract import Format, ShardFile, ShardReader, ShardWriter
from gen_engine.engine.writers.shard import is_encoded

Decoded = tuple[int, int | None, NDArray[Any]]
"""Index, label and values of a sample."""


class FormatContract:
    """Every format, with every codec that it takes, passes these."""

    name: ClassVar[str]
    """Its name for ``--format``."""

    codec: ClassVar[str] = "png"
    """The codec of the samples."""

    kind: ClassVar[str] = "image"
    """The kind of the samples: a key of :data:`SHAPES`."""

    latent_dim: ClassVar[int | None] = None
    """Dimensions of the latents that are stored with each sample; None for none."""

    @pytest.fixture(params=[None, CLASS_NAMES], ids=["unlabelled", "labelled"])
    def names(self, request: pytest.FixtureRequest) -> tuple[str, ...] | None:
        """Run a test for a dataset without and with labels."""
        names: tuple[str, ...] | None = request.param
        return names

    def data(self, names: tuple[str, ...] | None) -> Data:
        return Data(names, kind=self.kind, latent_dim=self.latent_dim)

    def open(self, scratch: Path, data: Data, number: int = 1) -> ShardWriter:
        start, stop = [(0, START), (START, STOP)][number]
        shard = Shard(number=number, start=start, stop=stop)
        return self.format.open(scratch, data.layout, shard, open_codec(self.codec))

    @property
    def format(self) -> Format:
        return open_format(self.name)

    def payload(self, field: Field, value: NDArray[Any]) -> Any:
        """Return the values that the format has to store of a sample's output."""
        codec = open_codec(self.codec)
        if self.format.holds_arrays or not is_encoded(field, codec):
            return value
        return codec.encode(value[None]).pieces()[0]

    def stored(self, data: Data, index: int) -> Record:
        """Return the values that the format has to read back."""
        value = self.payload(data.field, data.pixels[index])
        value = value.item() if data.field.form == "scalar" else value
        values: dict[str, Any] = {data.field.name: value, "index": index}
        if data.labels is not None:
            values["label"] = data.label(index)
        if data.latents is not None:
            values |= {"latents": data.latents[index], "seed": data.seed}
        return Record(index, values)

    def reader(self, files: list[Path], data: Data, number: int = 1) -> ShardReader:
        """Open a finished shard."""
        start, stop = [(0, START), (START, STOP)][number]
        shard = Shard(number=number, start=start, stop=stop)
        opened = [ShardFile(str(path), partial(open_regular, path)) for path in files]
        return self.format.open_shard(opened, data.layout, shard, open_codec(self.codec))

    def read(self, files: list[Path], data: Data, indices: Sequence[int]) -> list[Record]:
        """Return samples of the second shard."""
        with contextlib.closing(self.reader(files, data)) as reader:
            return list(reader.read(indices))

    def write_dataset(self, out: Path, data: Data) -> list[Path]:
        """Write both shards and a card; return the files of the second shard."""
        (out / "data").mkdir(parents=True)
        finished = []
        for number, (start, stop) in enumerate([(0, START), (START, STOP)]):
            writer = self.open(out, data, number)
            data.write(writer, start, stop, 4)
            files = writer.commit()
            for file in files:
                file.temporary.rename(out / file.name)
            records = [{**file._asdict(), "temporary": None} for file in files]
            finished.append(FinishedShard(stop - start, records))
        index_head = self.format.index_head(data.layout, open_codec(self.codec))
        for name, content in ({} if index_head is None else self.format.index(index_head, finished)).items():
            (out / name).write_bytes(content)
        head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in self.format.card(data.layout).items())
        (out / "README.md").write_text(f"---\n{head}---\n")  # JSON is YAML
        return [out / file.name for file in files]

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        """Yield all samples through the format's own reader."""
        raise NotImplementedError

    def load_latents(self, out: Path, data: Data) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yield index, seed and latents of all samples through the format's own reader."""
        raise NotImplementedError

    def test_reads_back_what_it_wrote(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        files = self.write_dataset(tmp_path / "out", data)
        for indices in ([START, 12, 13, STOP - 1], [20], [], range(START, STOP)):
            records = self.read(files, data, indices)
            assert [record.index for record in records] == list(indices)
            for record in records:
                assert differing_fields(self.stored(data, record.index), record) == ()
                assert record.values.keys() == set(data.layout.schema.names)
        assert [record.index for record in self.read(files, data, [30, 7])] == [7, 30]

    def test_samples_can_be_read_in_any_order(self, tmp_path: Path) -> None:
        data = self.data(CLASS_NAMES)
        files = self.write_dataset(tmp_path / "out", data)
        with contextlib.closing(self.reader(files, data)) as reader:
            for index in (20, STOP - 1, START, 20, 6):
                (record,) = reader.read([index])
                assert differing_fields(self.stored(data, index), record) == ()

    def test_its_own_reader_reads_it(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        self.write_dataset(tmp_path / "out", data)
        loaded = sorted(self.load(tmp_path / "out", data), key=lambda sample: sample[0])
        assert [index for index, _, _ in loaded] == list(range(STOP))
        for index, label, pixels in loaded:
            assert label == data.label(index)
            assert (pixels.shape, pixels.dtype) == (data.field.sizes, data.field.numpy_dtype)
            np.testing.assert_array_equal(pixels, data.pixels[index])

    def test_the_cards_example_runs(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        out = tmp_path / "out"
        self.write_dataset(out, data)
        code = self.format.example(data.layout)
        assert "PATH" in code
        exec(code.replace("PATH", str(out)), {})

    def test_bytes_do_not_depend_on_the_batches(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        written = []
        for cut in (1, 7, 8, STOP):
            writer = self.open(tmp_path, data)
            data.write(writer, START, STOP, cut)
            written.append([(file.name, file.bytes, file.blake3) for file in writer.commit()])
            writer.abort()
        assert all(files == written[0] for files in written)

    def test_the_callers_arrays_may_change_after_append(self, tmp_path: Path) -> None:
        data = self.data(CLASS_NAMES)
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        writer, reused = self.open(tmp_path / "a", data), self.open(tmp_path / "b", data)
        data.write(writer, START, STOP, 3)
        for start in range(START, STOP):
            batch = data.batch(start, start + 1)
            arrays = {name: np.array(column) for name, column in batch.columns.items()}
            reused.append(Batch(start, arrays))
            for array in arrays.values():
                array[:] = 0
        assert [f.blake3 for f in reused.commit()] == [f.blake3 for f in writer.commit()]

    def test_says_truly_what_it_wrote(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        writer = self.open(tmp_path, data)
        data.write(writer, START, STOP, 10)
        files = writer.commit()
        assert [file.name for file in files] == self.format.file_names(data.layout, 1)
        assert sorted(file.temporary for file in files) == sorted(tmp_path.iterdir())
        for file in files:
            assert file.bytes == file.temporary.stat().st_size
            written = file.temporary.read_bytes()
            assert file.blake3 == blake3(written).hexdigest()
            assert file.sha256 in (None, hashlib.sha256(written).hexdigest())

    def test_names_are_in_order_however_many_shards(self) -> None:
        for shards in (1, 10, 99_999, 100_000, 2_000_000):
            layout = replace(self.data(None).layout, shards=shards)
            numbers = [n for n in (0, 1, 9, 10, 99_998, 99_999, 100_000, 999_999, 1_000_000) if n < shards]
            files = [self.format.file_names(layout, n) for n in numbers]
            assert files == sorted(files)
            assert len({name for names in files for name in names}) == sum(map(len, files))

    def test_an_incomplete_shard_is_refused(self, tmp_path: Path) -> None:
        data = self.data(None)
        writer = self.open(tmp_path, data)
        data.write(writer, START, STOP - 1, 5)
        with pytest.raises(WriterError, match="25 of 26 samples"):
            writer.commit()
        writer.abort()
        assert list(tmp_path.iterdir()) == []

    def test_samples_of_another_shape_or_type_are_a_bug(self, tmp_path: Path) -> None:
        data = self.data(None)
        whole = data.batch(START, 8)
        values, name = np.asarray(whole[data.field.name]), data.field.name
        for columns in (
            {**whole.columns, name: values[..., :-1]},
            {**whole.columns, name: values.astype(np.float64)},
            {**whole.columns, name: values[:-1]},
            {**whole.columns, "other": values},
            {"index": whole["index"]},
        ):
            writer = self.open(tmp_path, data)
            with pytest.raises(AssertionError):
                writer.append(Batch(whole.start, columns))
            writer.abort()

    def test_a_gap_is_a_bug(self, tmp_path: Path) -> None:
        data = self.data(None)
        writer = self.open(tmp_path, data)
        with pytest.raises(AssertionError, match="sample 5 is due, not 6"):
            writer.append(data.batch(6, 8))
        writer.abort()

    @pytest.mark.parametrize("appended", [START, 7, STOP])
    def test_abort_leaves_nothing(self, tmp_path: Path, appended: int) -> None:
        data = self.data(CLASS_NAMES)
        writer = self.open(tmp_path, data)
        data.write(writer, START, appended, 4)
        assert any(tmp_path.iterdir())
        writer.abort()
        assert list(tmp_path.iterdir()) == []
        writer.abort()

    def test_abort_after_commit_and_rename_is_harmless(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        data = self.data(None)
        (out / "data").mkdir(parents=True)
        writer = self.open(out, data)
        data.write(writer, START, STOP, 4)
        files = writer.commit()
        for file in files:
            file.temporary.rename(out / file.name)
        writer.abort()
        assert all((out / file.name).stat().st_size == file.bytes for file in files)

    def test_a_full_disk_at_any_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(staged, "GATHERED", 0)  # every write by itself
        data = self.data(CLASS_NAMES)

        def attempt(writes: int) -> FullDisk:
            disk = FullDisk(monkeypatch, writes)
            writer = None
            try:
                writer = self.open(tmp_path, data)
                data.write(writer, START, STOP, 9)
                writer.commit()
            finally:
                if writer is not None:
                    writer.abort()
                assert list(tmp_path.iterdir()) == []
                disk.repair()
            return disk

        total = 10**6 - attempt(10**6).writes_left
        assert total >= 3
        for writes in range(total):
            with pytest.raises(WriterError, match=r"data/.*\(No space left on device\); free some space") as caught:
                attempt(writes)
            assert isinstance(caught.value.__cause__, OSError)

    def test_a_device_that_is_really_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = self.data(None)
        open_path = Path.open

        def open_full(path: Path, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
            if (mode, buffering) == ("xb", 0):
                return open_path(Path("/dev/full"), "wb", 0)
            return open_path(path, mode, buffering, **kwargs)

        monkeypatch.setattr(Path, "open", open_full)
        with pytest.raises(WriterError, match="No space left on device"):  # noqa: PT012 - a header may be the first
            writer = self.open(tmp_path, data)
            try:
                data.write(writer, START, STOP, 4)
                writer.commit()  # a format may buffer until then
            finally:
                writer.abort()
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_fsync(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = self.data(None)
        writer = self.open(tmp_path, data)
        data.write(writer, START, STOP, 4)

        def fail(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(WriterError, match="Input/output error"):
            writer.commit()
        writer.abort()
        assert list(tmp_path.iterdir()) == []

    def test_no_directory_to_write_to(self, tmp_path: Path) -> None:
        with pytest.raises(WriterError, match="No such file or directory"):
            self.open(tmp_path / "missing", self.data(None))

    @pytest.mark.parametrize("index", [0, START - 1, STOP, 10**9])
    def test_a_sample_of_another_shard_is_missed(self, tmp_path: Path, index: int) -> None:
        data = self.data(CLASS_NAMES)
        files = self.write_dataset(tmp_path / "out", data)
        with pytest.raises(VerifyError, match=f"sample {index} is not in it"):
            self.read(files, data, [index])

    @pytest.mark.parametrize("kept", [0.0, 0.4, 0.9])
    def test_a_truncated_shard_is_named(self, tmp_path: Path, kept: float) -> None:
        data = self.data(CLASS_NAMES)
        files = self.write_dataset(tmp_path / "out", data)
        os.truncate(files[0], int(kept * files[0].stat().st_size))
        with pytest.raises(VerifyError, match=rf"{files[0].name}: cannot be read as"):
            self.read(files, data, range(START, STOP))

    def test_a_damaged_shard_is_read_as_samples_or_refused(self, tmp_path: Path) -> None:
        data = self.data(CLASS_NAMES)
        files = self.write_dataset(tmp_path / "out", data)
        whole, rng, refused = [file.read_bytes() for file in files], np.random.default_rng(1), 0
        for case in range(100):
            number = int(rng.integers(len(files)))
            damaged = bytearray(whole[number])
            # Every other case in the head, which says how the rest is read.
            reach = min(len(damaged), 200) if case % 2 else len(damaged)
            for _ in range(int(rng.integers(1, 4))):
                damaged[int(rng.integers(reach))] = int(rng.integers(256))
            files[number].write_bytes(damaged)
            try:
                for record in self.read(files, data, range(START, STOP)):
                    assert record.values.keys() == set(data.layout.schema.names)
            except VerifyError:
                refused += 1
            files[number].write_bytes(whole[number])
        assert refused

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        data = self.data(CLASS_NAMES)
        files = self.write_dataset(tmp_path / "out", data)
        files[0].unlink()
        with pytest.raises(VerifyError, match=files[0].name):
            self.read(files, data, [START])

    def test_a_shard_of_another_schema_is_refused(self, tmp_path: Path) -> None:
        data, other = self.data(CLASS_NAMES), self.data(None)
        files = self.write_dataset(tmp_path / "out", other)
        names = [tmp_path / "out" / name for name in self.format.file_names(data.layout, 1)]
        for name in names:
            if name not in files:
                name.write_bytes(files[0].read_bytes())
        with pytest.raises(VerifyError, match="cannot be read as"):
            self.read(names, data, range(START, STOP))

    def test_stands_in_the_table_under_its_name(self) -> None:
        assert self.format.name == self.name
        assert self.format.identity.startswith(f"{self.name}/")


class StoresLatents(FormatContract):
    """Mixed into the contract of a format, before it: its samples are stored with their latents and seed."""

    latent_dim = 3

    def test_its_own_reader_reads_latents(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        assert data.latents is not None
        self.write_dataset(tmp_path / "out", data)
        loaded = sorted(self.load_latents(tmp_path / "out", data), key=lambda sample: sample[0])
        assert [index for index, _, _ in loaded] == list(range(STOP))
        for index, seed, latents in loaded:
            assert seed == SEED
            assert latents.dtype == np.float32
            np.testing.assert_array_equal(latents, data.latents[index])
