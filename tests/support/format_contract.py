"""What every output format must do, as a class to be subclassed once a format and codec.

A test that takes ``names`` runs for a dataset without and with labels; the fixture is in the writers' conftest.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import yaml
from blake3 import blake3
from full_disk import FullDisk
from numpy.typing import NDArray

from gen_engine.engine.codecs import open_codec
from gen_engine.engine.errors import VerifyError, WriterError
from gen_engine.engine.sample.modalities import Pixels
from gen_engine.engine.sample.schema import Batch, Layout, Origin, StoredSample
from gen_engine.engine.sample.shard import FinishedShard, Shard
from gen_engine.engine.writers import open_format, staged
from gen_engine.engine.writers.contract import Format, ShardWriter

CLASS_NAMES = ("T-shirt/top", "Trouser", "Zoë's “bag”")
START, STOP = 5, 31
SHAPES = {"image": (6, 5, 3), "audio": (11, 2), "volume": (3, 4, 5, 2), "vector": (7,)}
SEED = 2**64 - 3
Decoded = tuple[int, int | None, Pixels]


class Data:
    """Samples 0 to 31 of a dataset, of which the last 26 fill its second shard."""

    def __init__(
        self,
        names: tuple[str, ...] | None,
        shape: tuple[int, ...] | None = None,
        modality: str = "image",
        origin: Origin | None = None,
    ) -> None:
        rng = np.random.default_rng(3)
        self.layout = Layout(
            shape=shape or SHAPES[modality], class_names=names, shards=2, modality=modality, origin=origin
        )
        size = (STOP, *self.layout.shape)
        self.pixels: Pixels = rng.integers(0, 256, size, dtype=np.uint8)
        if modality != "image":
            # Of every magnitude that float32 has: a reader that goes through another type shows.
            self.pixels = (rng.standard_normal(size) * 10.0 ** rng.integers(-37, 38, size)).astype(np.float32)
        self.labels = None if names is None else rng.integers(0, len(names), STOP)
        self.latents = None
        if origin is not None:
            self.latents = rng.standard_normal((STOP, origin.latent_dim)).astype(np.float32)

    def batch(self, start: int, stop: int) -> Batch:
        columns = (self.pixels, self.labels, self.latents)
        return Batch(start, *(None if column is None else column[start:stop] for column in columns))

    def label(self, index: int) -> int | None:
        return None if self.labels is None else int(self.labels[index])

    def write(self, writer: ShardWriter, start: int, stop: int, cut: int) -> None:
        for first in range(start, stop, cut):
            writer.append(self.batch(first, min(first + cut, stop)))


class FormatContract:
    """Every format, with every codec that it takes, passes these."""

    name: ClassVar[str]
    codec: ClassVar[str] = "png"
    modality: ClassVar[str] = "image"
    origin: ClassVar[Origin | None] = None

    def data(self, names: tuple[str, ...] | None) -> Data:
        return Data(names, modality=self.modality, origin=self.origin)

    def open(self, scratch: Path, data: Data, number: int = 1) -> ShardWriter:
        start, stop = [(0, START), (START, STOP)][number]
        shard = Shard(number=number, start=start, stop=stop)
        return self.format.open(scratch, data.layout, shard, open_codec(self.codec))

    @property
    def format(self) -> Format:
        return open_format(self.name)

    def payload(self, pixels_HWC: Pixels) -> bytes:
        """Return what the format is to store of a sample."""
        if self.format.holds_arrays:
            return pixels_HWC.tobytes()
        return open_codec(self.codec).encode(pixels_HWC[None])[0]

    def stored(self, data: Data, index: int) -> StoredSample:
        """Return what the format is to read back."""
        sample = StoredSample(index, data.label(index), self.payload(data.pixels[index]))
        if data.latents is None:
            return sample
        return replace(sample, seed=SEED, latents=data.latents[index].tobytes())

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
        head = self.format.index_head(data.layout, open_codec(self.codec))
        for name, content in ({} if head is None else self.format.index(head, finished)).items():
            (out / name).write_bytes(content)
        (out / "README.md").write_text(f"---\n{yaml.safe_dump(dict(self.format.card(data.layout)))}---\n")
        return [out / file.name for file in files]

    def load(self, out: Path, data: Data) -> Iterator[Decoded]:
        """Yield all samples through the format's own reader."""
        raise NotImplementedError

    def load_origins(self, out: Path, data: Data) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yield index, seed and latents of all samples through the format's own reader."""
        raise NotImplementedError

    def test_reads_back_what_it_wrote(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        files = self.write_dataset(tmp_path / "out", data)
        for indices in ([START, 12, 13, STOP - 1], [20], [], range(START, STOP)):
            expected = [self.stored(data, index) for index in indices]
            assert list(self.format.read(files, indices)) == expected
        assert [sample.index for sample in self.format.read(files, [30, 7])] == [7, 30]

    def test_its_own_reader_reads_it(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        self.write_dataset(tmp_path / "out", data)
        loaded = sorted(self.load(tmp_path / "out", data), key=lambda sample: sample[0])
        assert [index for index, _, _ in loaded] == list(range(STOP))
        for index, label, pixels in loaded:
            assert label == data.label(index)
            assert (pixels.shape, pixels.dtype) == (data.layout.shape, data.layout.dtype)
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
            arrays = [None if array is None else array.copy() for array in batch[1:]]
            reused.append(Batch(start, *arrays))
            for array in arrays:
                if array is not None:
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
            data = file.temporary.read_bytes()
            assert file.blake3 == blake3(data).hexdigest()
            assert file.sha256 in (None, hashlib.sha256(data).hexdigest())

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
        for pixels in (whole.pixels_BHWC[..., :-1], whole.pixels_BHWC.astype(np.float64)):
            writer = self.open(tmp_path, data)
            with pytest.raises(AssertionError):
                writer.append(whole._replace(pixels_BHWC=pixels))
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

    def test_a_device_that_is_really_full(self, tmp_path: Path) -> None:
        data = self.data(None)
        writer = self.open(tmp_path, data)
        staged = sorted(tmp_path.iterdir())
        writer.abort()
        for path in staged:
            path.symlink_to("/dev/full")
        with pytest.raises(WriterError, match="No space left on device"):  # noqa: PT012 - a header may be the first
            writer = self.open(tmp_path, data)
            try:
                data.write(writer, START, STOP, 4)
                writer.commit()  # a format may hold back until then
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
        files = self.write_dataset(tmp_path / "out", self.data(CLASS_NAMES))
        with pytest.raises(VerifyError, match=f"sample {index} is not in it"):
            list(self.format.read(files, [index]))

    @pytest.mark.parametrize("kept", [0.0, 0.4, 0.9])
    def test_a_truncated_shard_is_named(self, tmp_path: Path, kept: float) -> None:
        files = self.write_dataset(tmp_path / "out", self.data(CLASS_NAMES))
        os.truncate(files[0], int(kept * files[0].stat().st_size))
        with pytest.raises(VerifyError, match=rf"{files[0].name}: (cannot be read as|sample {START} is not in it)"):
            list(self.format.read(files, range(START, STOP)))

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        files = self.write_dataset(tmp_path / "out", self.data(CLASS_NAMES))
        files[0].unlink()
        with pytest.raises(VerifyError, match=files[0].name):
            list(self.format.read(files, [START]))

    def test_stands_in_the_table_under_its_name(self) -> None:
        assert self.format.name == self.name
        assert self.format.identity.startswith(f"{self.name}/")


class StoresOrigins:
    """Mixed into the contract of a format whose samples are stored with what they were made from."""

    origin = Origin(seed=SEED, latent_dim=3)

    def test_its_own_reader_reads_origins(self, tmp_path: Path, names: tuple[str, ...] | None) -> None:
        data = self.data(names)
        assert data.latents is not None
        self.write_dataset(tmp_path / "out", data)
        loaded = sorted(self.load_origins(tmp_path / "out", data), key=lambda sample: sample[0])
        assert [index for index, _, _ in loaded] == list(range(STOP))
        for index, seed, latents in loaded:
            assert seed == SEED
            assert latents.dtype == np.float32
            np.testing.assert_array_equal(latents, data.latents[index])
